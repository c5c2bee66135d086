"""Build sdist and wheel, and use the wheel outside the checkout.

The wheel is built from the sdist, so a file that either of them lacks is found. It is unpacked
into a folder of its own, on top of the installed dependencies, and used from there; projects that
it writes run there too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from project_check import check_projects

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = {
    ".py",
    ".yaml",
    ".json",
    ".safetensors",
    ".md",
    ".typed",
    ".hpp",
    ".cpp",
    ".so",
    ".dylib",
    ".dll",
    ".html",
    ".css",
    ".js",
    ".svg",
    ".txt",
    ".tmpl",
}
IMPORT_ALL = """
import importlib, pathlib, sys
site, *names = sys.argv[1:]
for name in names:
    file = importlib.import_module(name).__file__
    if file is not None and not pathlib.Path(file).is_relative_to(site):
        sys.exit(f"{name} came from {file}, not from the wheel")
"""


def expected() -> set[str]:
    """Every file of the library as it must be called in the wheel."""
    folders = {"medseg_nca": ROOT / "medseg_nca"}
    folders |= {f"medseg_nca/{name}": ROOT / name for name in ("datasets", "pipelines", "configs")}
    found = set()
    for prefix, folder in folders.items():
        for parent, _, names in os.walk(folder):  # does not follow the links
            inside = PurePosixPath(prefix) / Path(parent).relative_to(folder).as_posix()
            found |= {str(inside / name) for name in names if Path(name).suffix in SHIPPED}
    return found


def module(name: str) -> str:
    """The dotted name of a Python file in the wheel."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def run(*command: str, cwd: Path, **environment: str) -> None:
    """Run a command; its failure ends the check."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, check=False)
    if done.returncode:
        sys.exit(f"wheel check: failed ({done.returncode}): {' '.join(command[:4])} ...")


def main() -> None:
    """Build, compare, install, import."""
    with tempfile.TemporaryDirectory(prefix="wheel-check-") as temporary:
        work = Path(temporary).resolve()
        quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        build = [sys.executable, "-m", "build", "--outdir", str(work / "dist")]
        with (work / "build.log").open("wb") as log:
            done = subprocess.run(
                [*build, str(ROOT)], cwd=work, stdout=log, stderr=log, check=False
            )
        if done.returncode:
            sys.exit((work / "build.log").read_text() + "\nwheel check: the build failed")
        (wheel,) = (work / "dist").glob("*.whl")
        names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
        if missing := expected() - names:
            sys.exit(f"wheel check: not in the wheel: {', '.join(sorted(missing))}")
        if outside := {n for n in names if not n.startswith("medseg_nca/")}:
            sys.exit(f"wheel check: would overwrite others: {', '.join(sorted(outside))}")

        site, here = work / "site", work / "here"
        here.mkdir()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        run(*pip, "--target", str(site), str(wheel), cwd=here, **quiet)
        modules = sorted({module(n) for n in names if n.endswith(".py")} - {"medseg_nca.__main__"})
        own = {"PYTHONPATH": str(site), "HOME": str(work / "home")}
        run(sys.executable, "-c", IMPORT_ALL, str(site), *modules, cwd=here, **own)
        run(sys.executable, "-m", "medseg_nca", "--help", cwd=here, **own)
        run(sys.executable, "-m", "medseg_nca", "config", "list", cwd=here, **own)
        if left := sorted(p.name for p in here.iterdir()):
            sys.exit(f"wheel check: importing wrote {left}")
        print(f"wheel check: {wheel.name}: {len(names)} files, {len(modules)} modules import")
        check_projects(site, work)


if __name__ == "__main__":
    main()
