"""What is installed: the same by the README's commands and in CI, and told while it goes on."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("installer", ROOT / ".ci" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ci_installs_what_the_readme_installs(project: dict[str, Any]) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    extras = re.findall(r"^EXTRAS \?= (\S+)$", makefile, re.MULTILINE)
    assert extras == ["dev,cluster,peers,search,serve"]
    assert set(extras[0].split(",")) <= set(project["project"]["optional-dependencies"])
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "EXTRAS" not in script
    assert {"make test", "make test-peers", "make check"} <= set(re.findall(r"make [\w-]+", script))


def test_each_test_is_run_by_one_of_the_two_targets() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    chosen = re.findall(r"pytest -n \$\(JOBS\) -m \"(.+)\" \$\(ARGS\)", makefile)
    assert chosen == ["not ($(PEERS))", "$(PEERS)"]


def test_types_are_the_same_with_and_without_optional_packages(project: dict[str, Any]) -> None:
    """Mypy does not look into them, so it cannot tell whether they are installed."""
    skipped = {
        name
        for override in project["tool"]["mypy"]["overrides"]
        if override.get("follow_imports") == "skip" and override.get("ignore_missing_imports")
        for name in override["module"]
    }
    optional = project["project"]["optional-dependencies"]["cluster"]
    names = {re.split(r"\W", requirement)[0] for requirement in optional}
    assert names
    assert names | {f"{name}.*" for name in names} <= skipped


def test_what_pip_prints_becomes_one_line(installer: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.12" / "site-packages"
    (site / "pip-1.dist-info").mkdir(parents=True)
    progress = installer.Progress(tmp_path)
    progress.read("Obtaining file:///work/medseg_nca")
    progress.read("Collecting torch>=2.8 (from medseg-nca==0.1.0)")
    assert progress.text() == "package 1, torch>=2.8"
    progress.read("Downloading https://host/a/torch-2.13.0-cp312-none-linux.whl (187.2 MB)")
    assert progress.text() == "package 1, fetching torch-2.13.0-cp312-none-linux.whl (187.2 MB)"
    progress.read("Collecting numpy")
    progress.read("Requirement already satisfied: click in ./lib")
    assert progress.text() == "package 2, numpy"
    progress.read("Building editable for medseg-nca (pyproject.toml): started")
    assert progress.text() == "building editable for medseg-nca"
    progress.read("Installing collected packages: numpy, torch, medseg-nca")
    assert progress.text() == "unpacked 0 of 3 packages"
    (site / "numpy-2.dist-info").mkdir()
    assert progress.text() == "unpacked 1 of 3 packages"


def test_a_failed_installation_says_why(tmp_path: Path) -> None:
    """Pip's own last lines, its exit code, and where the rest is."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    python = tmp_path / "bin" / "python"
    python.write_text(
        "#!/bin/sh\necho 'Collecting torch'\necho 'ERROR: No space left' >&2\nexit 3\n"
    )
    python.chmod(0o755)
    command = [sys.executable, str(ROOT / ".ci" / "install.py"), str(tmp_path), "dev"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "GB of disk" in done.stdout
    assert "ERROR: No space left" in done.stdout
    assert str(tmp_path / "pip.log") in done.stdout
    assert "Installed" not in done.stdout


def test_an_installation_ends_with_how_to_call_the_command(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    (tmp_path / "bin" / "python").symlink_to("/bin/true")
    command = [sys.executable, str(ROOT / ".ci" / "install.py"), str(tmp_path), "dev"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert f"Call {tmp_path}/bin/medseg-nca" in done.stdout.splitlines()[-1]


def peers(tmp_path: Path, **stubs: str) -> str:
    """What `.ci/peers` says on a machine that has these programs and bash's own tools only."""
    for name, script in stubs.items():
        file = tmp_path / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
    bash, tail = (str(shutil.which(name)) for name in ("bash", "tail"))
    (tmp_path / "tail").symlink_to(tail)
    command = [bash, str(ROOT / ".ci" / "peers")]
    env = {"PATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_programs_that_cannot_be_installed_are_named_with_the_reason(tmp_path: Path) -> None:
    for number, (stubs, reason) in enumerate(
        (
            ({}, "no apt-get"),
            ({"apt_get": "exit 0", "id": "echo 1000"}, "only root"),
            ({"apt_get": "echo first; echo 'E: no such host' >&2; exit 100", "id": "echo 0"},
             "E: no such host"),
        )
    ):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        said = peers(folder, **stubs)
        assert "Not installed: dcmtk dicom3tools orthanc" in said
        assert reason in said
        assert "skipped" in said


def test_programs_that_can_be_installed_need_no_word(tmp_path: Path) -> None:
    assert peers(tmp_path, apt_get='echo "$@" >> "$0.log"', id="echo 0") == ""
    assert "install -y" in (tmp_path / "apt-get.log").read_text()


def test_names_of_tests_hold_no_packed_content(request: pytest.FixtureRequest) -> None:
    # gzip writes the time of day, and processes that name a test differently collect nothing.
    assert not [item.nodeid for item in request.session.items if "\\x1f\\x8b" in item.nodeid]
