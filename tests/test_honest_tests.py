"""Tests prove behaviour through public interfaces: what they replace or reach into is counted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
# How many attributes the tests of a file may replace (``monkeypatch.setattr``), because nothing
# honest brings the case about; a comment there says why. A new entry needs such a reason.
REPLACED = {
    "cli/test_bench.py": 1,  # measurements that take minutes
    "cli/test_demo.py": 1,  # a training that takes minutes
    "cli/test_models.py": 1,  # a package without its models
    "io/dicom/test_files.py": 1,  # errors of pydicom that no known file causes
    "io/test_jpeg.py": 2,  # a setting of Pillow that other programs change
    "io/test_png.py": 2,  # the same, and Pillow's limit of pixels
    "models/test_focus.py": 1,  # cells in focus, which random weights do not choose
    "nca/test_cpu_engine.py": 1,  # want of memory in one thread of a team
    "nca/test_library.py": 3,  # compiled loops that compute something else
    "pipelines/dicom_import/test_again.py": 2,  # a disk that is full at a given file
    "pipelines/test_deid_people.py": 1,  # faults of ours that nobody has foreseen
    "search/test_queue.py": 1,  # a list that another process made old within milliseconds
    "search/test_trial.py": 6,  # trainings that lose their trial or storage at a given moment
    "serving/test_full_disk.py": 3,  # a database whose disk is full, and then is not
    "serving/test_store.py": 1,  # three days that pass
    "tasks/generation/test_commands.py": 1,  # Ctrl-C within milliseconds
    "tracking/test_resolve.py": 1,  # a package without its models
}
# Strings that name private attributes to ``setattr``, by file.
PRIVATE_STRINGS = {"serving/test_full_disk.py": {"_FIRST_PAUSE"}}
OWN = {"self", "cls"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def replacements(tree: ast.AST) -> list[ast.Call]:
    """The calls that replace an attribute: ``setattr`` of a fixture, whatever its name."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"setattr", "delattr", "patch"}
    ]


def private_names(tree: ast.AST) -> Iterator[str]:
    """Private names of other modules and objects that a file imports, reads or replaces."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            places = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (name for name in places if private(name))
        elif isinstance(node, ast.Import):
            yield from (n for a in node.names for n in a.name.split(".") if private(n))
        elif isinstance(node, ast.Attribute) and private(node.attr):
            owner = node.value
            mine = isinstance(owner, ast.Name) and owner.id in OWN
            is_exit = isinstance(owner, ast.Name) and (owner.id, node.attr) == ("os", "_exit")
            if not mine and not is_exit:
                yield node.attr
    for call in replacements(tree):
        texts = [a.value for a in call.args if isinstance(a, ast.Constant)]
        yield from (n for t in texts if isinstance(t, str) for n in t.split(".") if private(n))


def files() -> list[Path]:
    return sorted(path for path in TESTS.rglob("*.py") if "plugin_example" not in path.parts)


def shown(file: Path) -> str:
    return file.relative_to(TESTS).as_posix()


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def test_no_more_is_replaced_than_there_is_a_reason_for() -> None:
    counts = {shown(file): len(replacements(parsed(file))) for file in files()}
    assert {name: count for name, count in counts.items() if count} == REPLACED


@pytest.mark.parametrize("file", files(), ids=shown)
def test_tests_use_no_private_names(file: Path) -> None:
    assert set(private_names(parsed(file))) == PRIVATE_STRINGS.get(shown(file), set())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from a.b import _c", ["_c"]),
        ("from a._b import c", ["_b"]),
        ("import a._b", ["_b"]),
        ("thing._step()", ["_step"]),
        ("self._step(); cls._x; os._exit(1); a.__dict__", []),
        ("patch.setattr(module, '_FEW', 1)", ["_FEW"]),
        ("monkeypatch.setattr('a.b._c', 1)", ["_c"]),
    ],
)
def test_private_names_are_found(text: str, found: list[str]) -> None:
    assert list(private_names(ast.parse(text))) == found
