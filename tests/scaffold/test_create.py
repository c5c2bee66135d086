"""``medseg-nca new``: whole projects, or nothing; what is in them, without running them."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from medseg_nca.scaffold.create import create_project
from medseg_nca.scaffold.notebook import notebook_of
from medseg_nca.scaffold.templates_of import template_tasks
from tests.cli.runner import complains, files_below, full_disk, half_written, run
from tests.plugins.processes import command

TASKS = ("classification", "generation", "regression", "segmentation")
KINDS = [(task, dims) for task in TASKS for dims in (2, 3)]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of each kind."""
    folder = tmp_path_factory.mktemp("projects")
    for task, dims in KINDS:
        create_project(folder / f"{task}-{dims}", task, dims)
    return folder


def test_every_task_has_templates() -> None:
    assert template_tasks() == TASKS


@pytest.mark.parametrize(("task", "dims"), KINDS)
def test_a_project_is_whole(projects: Path, task: str, dims: int) -> None:
    folder, package = projects / f"{task}-{dims}", f"{task}_{dims}"
    files = files_below(folder)
    assert {
        ".gitignore", "Makefile", "README.md", "notebook.ipynb", "pyproject.toml",
        f"src/{package}/data.py", f"src/{package}/presets/{package}.yaml", "tests/test_run.py",
    } <= set(files)  # fmt: skip
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in files}
    for name, text in texts.items():
        assert not re.search(r"\{\{|\}\}|PACKAGE", text), name
        assert not re.search(r"https?://|/home/|/root/|/tmp/|/work/", text), name
        assert text.endswith("\n")
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), name
        if name.endswith(".py"):
            ast.parse(text)
    preset = yaml.safe_load(texts[f"src/{package}/presets/{package}.yaml"])
    assert preset["name"] == package
    assert preset.get("task", "segmentation") == task
    # Each entry point names a module that is there.
    entries = tomllib.loads(texts["pyproject.toml"])["project"]["entry-points"]
    assert entries["medseg_nca.configs"] == {package: f"{package}.presets"}
    for value in (value for group in entries.values() for value in group.values()):
        place = folder / "src" / value.partition(":")[0].replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def test_ruff_finds_nothing_in_them(projects: Path) -> None:
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed: pip install ruff")
    ruff = [sys.executable, "-m", "ruff"]
    for words in (("format", "--check"), ("check", "--select", "E,F,I,UP,B,SIM,RUF,N,C4")):
        done = subprocess.run(
            [*ruff, *words, "--quiet", "--no-cache", "."], cwd=projects, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_notebook_is_one(projects: Path) -> None:
    for folder in projects.iterdir():
        tree = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))
        assert (tree["nbformat"], tree["nbformat_minor"]) == (4, 5)
        assert {cell["cell_type"] for cell in tree["cells"]} == {"code", "markdown"}
        assert tree["cells"][0]["source"][0] == f"# {folder.name}\n"
        ids = [cell["id"] for cell in tree["cells"]]
        assert len(set(ids)) == len(ids)


def test_a_notebook_has_the_cells_of_its_script() -> None:
    tree = json.loads(notebook_of("# lost\n# %% [markdown]\n# # Title\n#\n# Text\n\n# %%\na = 1\n"))
    assert [cell["source"] for cell in tree["cells"]] == [["# Title\n", "\n", "Text"], ["a = 1"]]
    assert tree["cells"][1]["outputs"] == []


@pytest.mark.parametrize("name", ["no", "on", "null", "true"])
def test_a_name_that_yaml_reads_otherwise_is_a_name(tmp_path: Path, name: str) -> None:
    for task in TASKS:
        create_project(tmp_path / task / name, task, 2)
        preset = tmp_path / task / name / "src" / name / "presets" / f"{name}.yaml"
        tree = yaml.safe_load(preset.read_text(encoding="utf-8"))
        assert tree["name"] == name
        assert tree["model"].get("name", name) == name


def test_git_leaves_out_what_the_commands_write(projects: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    made = [
        f"{folder}/case.txt"
        for folder in ("data", "mlartifacts", "predictions", "prepared", "runs", "searches")
    ]
    made += ["mlflow.db", "mlflow.db-wal", ".0123abcd.part.study/a.csv", "scans/brain.nii.gz"]
    words = (git, "check-ignore", "--no-index", "src/data/a.py", *made)
    folder = projects / "segmentation-2"
    subprocess.run((git, "init", "--quiet"), cwd=folder, check=True)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    shutil.rmtree(folder / ".git")
    assert done.stdout.split() == made


def test_the_command_says_what_to_type_next(tmp_path: Path) -> None:
    folder = tmp_path / "knee study"
    result = run("new", folder, "--task", "regression", "--dims", "3")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-3:] == [f"  cd '{folder}'", "  make demo", "  make test"]
    assert 'name = "knee-study"' in (folder / "pyproject.toml").read_text(encoding="utf-8")
    tree = json.loads(run("new", tmp_path / "second", "--json").stdout)
    assert tree["package"] == "second"
    assert sorted(tree["files"]) == files_below(tmp_path / "second")


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_exists_is_left_as_it_is(tmp_path: Path, what: str) -> None:
    place = tmp_path / "study"
    if what == "file":
        place.write_text("mine")
    elif what == "folder":
        (place / "mine").mkdir(parents=True)
    else:
        place.symlink_to("nowhere")
    complains(run("new", place), "exists already, and is left as it is", "does not exist")
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
    assert place.is_file() == (what == "file")
    assert place.is_symlink() == (what == "link")
    assert (place / "mine").is_dir() == (what == "folder")


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    complains(run("new", tmp_path / "datasets"), "would hide", "my_datasets")
    complains(
        run("new", tmp_path / "study", "--task", "segmentatoin"), "did you mean 'segmentation'"
    )
    complains(run("new", tmp_path / "study", "--dims", "4"), "4")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    with full_disk(300):
        result = run("new", tmp_path / "study")
    complains(result, "cannot be written")
    assert not half_written(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_package_brings_the_templates_of_its_task(tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "counting-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[medseg_nca.project_templates]\ncounting = counting.templates\nno_words = counting\n"
    )
    templates = site / "counting" / "templates"
    (templates / "src" / "PACKAGE").mkdir(parents=True)
    (site / "counting" / "__init__.py").touch()
    (templates / "__init__.py").touch()
    words = ("about", "about_long", "rows", "demo", "steps")
    tree = {**dict.fromkeys(words, "-"), "about": "counting in {{dims}}D"}
    (templates / "words.yaml").write_text(yaml.safe_dump(tree))
    (templates / "src" / "PACKAGE" / "count.py.tmpl").write_text('NAME = "{{package}}"\n')
    (templates / "README.md.tmpl").write_text("{{title}} learns {{task}}: {{wrong}}.\n")

    study = tmp_path / "study"
    text = command([site], "new", study, "--task", "counting", code=2)
    assert "README.md.tmpl: Unknown word 'wrong'" in text
    assert not study.exists()
    (templates / "README.md.tmpl").write_text("{{title}} learns {{task}}.\n")
    command([site], "new", study, "--task", "counting")
    assert (study / "README.md").read_text() == "study learns counting.\n"
    assert (study / "src" / "study" / "count.py").read_text() == 'NAME = "study"\n'
    assert "counting in 2D" in (study / "pyproject.toml").read_text()
    text = command([site], "new", tmp_path / "other", "--task", "no_words", code=2)
    assert "of the package counting 1.0" in text
    assert "there is no words.yaml" in text
