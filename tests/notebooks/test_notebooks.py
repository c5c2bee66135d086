"""The notebooks of the documentation: they run on their small settings, and a diff can be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook: NotebookNode) -> int:
    """How many outputs are pictures."""
    kinds = {"image/png", "image/gif"}
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return sum(bool(kinds & set(output.get("data", {}))) for output in outputs)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], NotebookNode]:
    """Runs a notebook with this checkout, in an empty folder."""

    def execute(path: Path) -> NotebookNode:
        work, temporary = tmp_path / "work", tmp_path / "tmp"
        work.mkdir()
        temporary.mkdir()
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        notebook = read(path)
        where = {"metadata": {"path": str(work)}}
        # Without a limit of time: a machine may be busy, and a kernel that died is noticed anyway.
        NotebookClient(notebook, timeout=None, kernel_name="python3", resources=where).execute()
        assert not list(work.iterdir()), "a notebook left files in the current folder"
        return notebook

    return execute


def test_there_is_a_notebook_for_each_lesson() -> None:
    names = [path.stem for path in NOTEBOOKS]
    assert names == ["digits", "growing", "m3d_nca", "med_nca", "stability"]
    page = (ROOT / "docs" / "notebooks.md").read_text("utf-8")
    assert not [name for name in names if f"(notebooks/{name}.ipynb)" not in page]


@each_notebook
def test_a_diff_of_a_notebook_can_be_read(path: Path) -> None:
    text = path.read_text("utf-8")
    notebook = read(path)
    nbformat.validate(notebook)
    assert text == nbformat.writes(notebook) + "\n", "written by another program, in another form"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert not [cell.id for cell in code(notebook) if cell.outputs or cell.execution_count]
    assert not [cell.id for cell in notebook.cells if cell.metadata]
    assert not [c.id for c in notebook.cells if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", c.id)]
    assert notebook.nbformat_minor >= 5  # cells have ids


@each_notebook
def test_the_settings_come_first_and_are_quick(path: Path) -> None:
    notebook = read(path)
    assert [cell.id for cell in notebook.cells[:2]] == ["title", "settings"]
    first, *others = [cell.source for cell in code(notebook)]
    assert first.startswith("QUICK = True  # False: ")
    assert not [source for source in others if re.search(r"^QUICK =", source, re.MULTILINE)]


@each_notebook
def test_links_lead_somewhere(path: Path) -> None:
    for cell in read(path).cells:
        for target in LINK.findall(cell.source if cell.cell_type == "markdown" else ""):
            assert "://" in target or (path.parent / target).exists(), target


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs(path: Path, run: Callable[[Path], NotebookNode]) -> None:
    notebook = run(path)
    assert pictures(notebook) >= 3
    errors = [
        line
        for cell in code(notebook)
        for output in cell.outputs
        if output.get("name") == "stderr"
        for line in output.text.splitlines()
        if "ERROR" in line or "Traceback" in line
    ]
    assert not errors
