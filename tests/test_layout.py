"""Guards of the tree: what is packaged, how the links stand, and which way imports point."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("datasets", "pipelines", "configs")
MAX_LINES = 400
MAX_FUNCTION = 60

# From low to high: a part imports only from lower ranks, and parts of one rank are blind to each
# other. A module that stands for itself (errors) is a part too.
RANKS = (
    {"errors", "suggest", "registry", "job", "cores", "findings"},
    {"config"},
    {"io", "transforms", "nca", "losses", "metrics", "viz"},
    {"models", "datasets", "trust"},
    {"inference", "recipe"},
    {"dynamics", "stages"},
    {"training", "peers"},
    {"tasks"},
    {"tracking"},
    {"work"},
    {"cases"},
    {"serving", "doctor", "benchmark", "scaffold", "search"},
    {"pipelines", "play"},
    {"one task"},
    {"cli"},
)
RANK = {part: rank for rank, parts in enumerate(RANKS) for part in parts}
# The folders of the tasks.
TASKS = {path.name for path in (ROOT / "medseg_nca" / "tasks").iterdir() if path.is_dir()}
# The array with its geometry is the word that readers, transforms and writers share.
SHARED = {("transforms", "medseg_nca.io.volume"), ("transforms", "medseg_nca.io.grid")}


def sources() -> list[Path]:
    """Every Python file of the library, at its real place."""
    found = []
    for top in ("medseg_nca", *LINKED):
        for parent, folders, names in os.walk(ROOT / top):  # does not follow the links
            folders[:] = [name for name in folders if name != "__pycache__"]
            found += [Path(parent) / name for name in names if name.endswith(".py")]
    return sorted(found)


def module_name(file: Path) -> str:
    """The name under which the library imports a file."""
    inside = file.relative_to(ROOT)
    parts = inside.parts if inside.parts[0] == "medseg_nca" else ("medseg_nca", *inside.parts)
    return ".".join(parts).removesuffix(".py").removesuffix(".__init__")


def imports(file: Path) -> Iterator[str]:
    """Every module of ours that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "medseg_nca")


def part_of(module: str) -> str:
    """``medseg_nca.io.nifti`` belongs to ``io``.

    A task uses everything below the commands, and everything uses it through the seam alone.
    """
    parts = module.split(".")
    if parts[1:2] == ["tasks"] and len(parts) > 2 and parts[2] in TASKS:
        return "one task"
    return parts[1] if len(parts) > 1 else ""


def shown(file: Path) -> str:
    """The path of a file from the root, as the id of a test."""
    return file.relative_to(ROOT).as_posix()


TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("name", LINKED)
def test_a_linked_folder_is_no_package_of_its_own(name: str) -> None:
    assert not list((ROOT / name).rglob("__init__.py")), "it would shadow another package"
    link = ROOT / "medseg_nca" / name
    assert link.is_symlink(), f"{link} must be a link; see CONTRIBUTING.md for Windows"
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name


def test_configs_hold_nothing_but_yaml() -> None:
    files = [
        p for p in (ROOT / "configs").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]
    assert {p.suffix for p in files} == {".yaml"}


def test_every_folder_is_packaged_by_name() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    files = [*sources(), *(ROOT / "configs").rglob("*.yaml")]
    folders = {module_name(file.parent / "__init__.py") for file in files}
    assert listed == sorted(listed)
    assert set(listed) == folders


def test_packages_inside_the_library_have_an_init() -> None:
    folders = {file.parent for file in sources() if file.is_relative_to(ROOT / "medseg_nca")}
    assert not [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()]


@pytest.mark.parametrize("file", sources(), ids=module_name)
def test_imports_point_down(file: Path) -> None:
    part = part_of(module_name(file))
    if part in {"", "__main__"}:
        return
    assert part in RANK, f"{part} has no rank: add it to architecture and to RANKS"
    wrong = [
        name
        for name in imports(file)
        if part_of(name) in RANK
        and part_of(name) != part
        and RANK[part_of(name)] >= RANK[part]
        and RANK[part] > 0
        and not any(part == user and name.startswith(shared) for user, shared in SHARED)
    ]
    assert not wrong, f"{part} may not import {', '.join(wrong)}"


@pytest.mark.parametrize("file", sources(), ids=module_name)
def test_the_library_imports_itself_by_its_full_name(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    roots = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not roots & {*LINKED, "tests"}


@pytest.mark.parametrize("file", [*sources(), *TEST_FILES], ids=shown)
def test_a_file_has_one_purpose(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: perhaps two files"


@pytest.mark.parametrize("file", sources(), ids=module_name)
def test_a_function_fits_a_screen(file: Path) -> None:
    if "kernels" in file.parts:
        return
    tree = ast.parse(file.read_text(encoding="utf-8"))
    long = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    too_long = {name: lines for name, lines in long.items() if lines > MAX_FUNCTION}
    assert not too_long, f"at most {MAX_FUNCTION} lines: perhaps two functions"


def test_a_class_name_is_used_once() -> None:
    places: dict[str, list[str]] = {}
    for file in sources():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module_name(file))
    twice = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert not twice


def test_a_checkout_does_not_shadow_the_other_datasets_package(tmp_path: Path) -> None:
    for name in LINKED:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OTHER = True\n")
    program = f"import {', '.join(LINKED)}\nassert datasets.OTHER and pipelines.OTHER"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_importing_every_module_does_nothing_else(tmp_path: Path) -> None:
    names = [module_name(f) for f in sources() if not module_name(f).endswith("__main__")]
    program = (
        "import importlib, sys, threading\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "assert not [t for t in threading.enumerate() if t is not threading.main_thread()]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, *names],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert not list(work.iterdir())
