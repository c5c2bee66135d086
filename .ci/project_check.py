"""Projects of ``medseg-nca new``: each is made, its demo and its tests run, from the wheel alone.

The environment is one of its own outside the checkout: the unpacked wheel, and the packages that
are installed beside it. A project is installed into it by its own Makefile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

TASKS = ("segmentation", "classification", "regression", "generation")
# One of them runs its tests without pytest, which the wheel does not bring.
WITHOUT_PYTEST = "generation"
AT_ONCE = 2


def check_projects(site: Path, work: Path) -> None:
    """Make a project of each task, and run what a person would run next.

    Args:
        site: folder with the unpacked wheel.
        work: an empty place outside the checkout.
    """
    start = time.monotonic()
    binaries = _environment(site, work / "env")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for line in pool.map(lambda task: _check(task, binaries, work), TASKS):
            print(f"project check: {line}")
    print(f"project check: all in {time.monotonic() - start:.0f} s")


def _environment(site: Path, folder: Path) -> Path:
    """Make the environment; returns the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    names = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", "venv", names))
    beside = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (own / "wheel.pth").write_text("\n".join([str(site), *beside]) + "\n")
    return Path(sysconfig.get_path("scripts", "venv", names))


def _check(task: str, binaries: Path, work: Path) -> str:
    """Make and try the project of a task; returns what to print."""
    project = work / f"{task}-study"
    environment = {
        **os.environ, "PATH": os.pathsep.join([str(binaries), os.environ["PATH"]]),
        "HOME": str(work / "home"), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1",
    }  # fmt: skip
    for name in ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL"):
        environment.pop(name, None)

    def run(*words: str, cwd: Path = project, **more: str) -> str:
        done = subprocess.run(
            words, cwd=cwd, env=environment | more, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{done.stdout}\n{done.stderr}\nproject check: {task}: {words} failed")
        return done.stdout

    seconds = [time.monotonic()]
    run("python", "-m", "medseg_nca", "new", project.name, "--task", task, cwd=work)
    if shutil.which("git"):
        run("git", "init", "--quiet")
        run("git", "add", ".")
    run("make", "demo")
    seconds.append(time.monotonic())
    more = {"TEST": "python -m unittest discover -s tests"} if task == WITHOUT_PYTEST else {}
    run("make", "test", *(f"{name}={value}" for name, value in more.items()))
    seconds.append(time.monotonic())
    for made in ("runs/demo/evaluation/report.html", "runs/demo/predictions/predictions.json"):
        if not (project / made).is_file():
            raise SystemExit(f"project check: {task}: the demo wrote no {made}")
    if shutil.which("git") and (left := run("git", "status", "--porcelain", "--untracked=all")):
        left = "\n".join(line for line in left.splitlines() if not line.startswith("A "))
        if left:
            raise SystemExit(f"project check: {task}: git would see {left}")
    demo, tests = (later - earlier for earlier, later in pairwise(seconds))
    return f"{task}: make demo {demo:.0f} s, make test {tests:.0f} s"
