"""The documentation is true: its Python runs, its commands parse, its links and presets exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from medseg_nca import __version__
from medseg_nca.cli.main import cli
from medseg_nca.config.loading import load_settings
from medseg_nca.config.presets import preset_names

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")
INLINE = re.compile(r"`(medseg-nca [^`]+)`")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [text for lang, text in FENCE.findall(page.read_text("utf-8")) if lang in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """Every ``medseg-nca ...`` in a shell block, as arguments."""
    for block in blocks(page, "bash", "console", "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] == "medseg-nca":
                yield words[1:]


def resolve(args: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """Follow the groups to the command that ``args`` calls."""
    command: click.Command = cli
    context = click.Context(cli, info_name="medseg-nca")
    while isinstance(command, click.Group):
        _, left, _ = command.make_parser(context).parse_args(list(args))
        if not left and command.invoke_without_command:
            break
        name, found, args = command.resolve_command(context, left)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)
    return command, context, args


def check(args: list[str]) -> None:
    """Fail unless the command, its options, its choices and its presets exist."""
    command, context, rest = resolve(args)
    values, left, _ = command.make_parser(context).parse_args(list(rest))
    assert not left, f"too many arguments: {left}"
    for parameter in command.params:
        value = values.get(parameter.name or "")
        given = isinstance(value, (str, bool, int, list, tuple)) and value not in ((), [])
        assert given or not parameter.required, f"{parameter.name} is missing"
        if given and not isinstance(parameter.type, click.Path):
            parameter.type_cast_value(context, value)
    config = values.get("config")
    # A file that is not there was made by an earlier command of the page.
    made = isinstance(config, str) and config.endswith(".yaml") and not (ROOT / config).exists()
    if isinstance(config, str) and not made:
        load_settings(config, values.get("overrides") or ())


# Pages that train and write files: each runs in a process and a folder of its own.
LONG = ("own-parts.md",)


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in LONG], ids=lambda p: p.name)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}  # a page is read from the top
    for number, text in enumerate(blocks(page, "python"), start=1):
        exec(compile(text, f"{page.name}, example {number}", "exec"), names)
    assert not list(tmp_path.iterdir()), "an example left files behind"


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_long_examples_run(name: str, tmp_path: Path) -> None:
    """As one script, from the top."""
    script = tmp_path / "script.py"
    script.write_text("\n".join(blocks(ROOT / "docs" / name, "python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("page", "args"),
    [(page, args) for page in PAGES for args in commands(page)],
    ids=lambda value: value.name if isinstance(value, Path) else " ".join(value)[:50],
)
def test_commands_parse(page: Path, args: list[str]) -> None:
    try:
        check(args)
    except (click.ClickException, ValueError) as error:
        pytest.fail(f"medseg-nca {' '.join(args)}: {error}")


@pytest.mark.slow
def test_the_tour_runs_as_the_readme_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder, without data or network; cases, voxels and training are made fewer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    less = {
        "data phantom": ("--cases", "6"),
        "preprocess": ("--set", "preprocess.spacing=[2.5,2.5,4]"),
        # So few that the model has just learned something, without which the tour would end there.
        "train": ("--set", "training.iterations=80", "--set", "training.lr=6e-3",
                  "--set", "training.warmup=10"),
    }  # fmt: skip
    tour = next(block for block in blocks(ROOT / "README.md", "bash") if "data phantom" in block)
    for line in tour.splitlines():
        args = shlex.split(line, comments=True)[1:]
        more = next((more for words, more in less.items() if " ".join(args).startswith(words)), ())
        done = CliRunner().invoke(cli, [*args, *more])
        assert done.exit_code == 0, f"{line}: {done.output}"
    files = sorted(path.name for path in (tmp_path / "predictions").glob("*.nii.gz"))
    assert files == [f"phantom_0000{number}.nii.gz" for number in range(6)]


def test_nothing_in_the_docs_lies_outside_of_a_clone() -> None:
    """But for what tests look for, and skip without."""
    pages = [page for page in PAGES if "../shared" in page.read_text("utf-8")]
    assert [page.name for page in pages] == ["CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_in_the_text_exist(page: Path) -> None:
    for text in INLINE.findall(page.read_text("utf-8")):
        words = shlex.split(text)[1:]
        if not words[0].startswith("-"):
            resolve([word for word in words if word != "..."])


def test_a_wrong_command_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        check(["config", "shw", "demo"])
    with pytest.raises(click.UsageError):
        check(["config", "show", "--sett", "a=b"])
    with pytest.raises(AssertionError, match="second is missing"):
        check(["config", "diff", "demo"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_yaml_examples_are_valid_settings(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(text), dict)
        file = tmp_path / "example.yaml"
        file.write_text(text)
        load_settings(str(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    text = str(site["nav"])
    assert not [page.name for page in PAGES if page.parent.name == "docs" and page.name not in text]


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"`make (\w+)`|^make (\w+)", page.read_text("utf-8"), re.MULTILINE)
        for target in target
        if target
    }
    assert named <= targets


def test_the_model_presets_are_documented() -> None:
    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    assert not [name for name in preset_names("model") if f"`{name}`" not in text]


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
