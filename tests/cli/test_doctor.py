"""``medseg-nca doctor``."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from tests.tracking.tiny import new_store


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["doctor", *args])
    return result.exit_code, result.stdout


def findings(*args: str) -> tuple[int, dict[str, Any]]:
    code, out = run(*args, "--json")
    tree = json.loads(out)
    assert tree["healthy"] is (code == 0)
    return code, {f"{f['area']}.{f['name']}": f for f in tree["findings"]}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def test_it_looks_at_everything_and_leaves_no_trace(tmp_path: Path) -> None:
    code, found = findings()
    assert code == 0
    for name in (
        "python.Python",
        "packages.torch",
        "devices.cpu",
        "engine.cpu",
        "memory.RAM",
        "disk.work folder",
    ):
        assert found[name]["value"]
    assert "made by the first run" in found["tracking.store"]["value"]
    assert not list(tmp_path.iterdir())


def install(folder: Path, requirements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an installed package of our name with other requirements before the real one."""
    about = folder / "medseg_nca-0.dist-info"
    about.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: medseg-nca", "Version: 0"]
    lines += [f"Requires-Dist: {line}" for line in requirements]
    (about / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(folder)


def test_the_table_ends_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, ["no-such-package>=3", "click>=999"], monkeypatch)
    code, out = run()
    assert code == 2
    assert "missing (needs >=3)" in out
    todo = out.partition("What to do")[2]
    assert "pip install 'no-such-package>=3'" in todo
    assert "pip install 'click>=999'" in todo
    assert "Ready" not in out


def test_a_missing_extra_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ['no-such-package>=3; extra == "cluster"', 'no-such-tool; extra == "dev"']
    install(tmp_path, lines, monkeypatch)
    code, found = findings()
    assert code == 0
    assert found["extras.cluster"]["level"] == "note"
    assert "medseg-nca[cluster]" in found["extras.cluster"]["advice"]
    assert "extras.dev" not in found


def test_a_store_that_is_in_use(tmp_path: Path) -> None:
    uri = str(new_store(tmp_path).uri)
    code, found = findings("--tracking-uri", uri)
    assert code == 0
    assert "0 runs, writable" in found["tracking.store"]["value"]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        code, found = findings("--tracking-uri", uri)
    assert code == 2
    assert "locked" in found["tracking.store"]["value"]


@pytest.mark.parametrize(
    ("uri", "value"),
    [
        ("./mlruns", "not a tracking store"),
        ("http://127.0.0.1:9", "does not answer"),
        ("other.db", "not a database"),
    ],
)
def test_a_store_that_cannot_be_used(tmp_path: Path, uri: str, value: str) -> None:
    (tmp_path / "other.db").write_text("a text that is long enough to be looked at as a data base")
    code, found = findings("--tracking-uri", uri)
    assert code == 2
    assert value in found["tracking.store"]["value"]
    assert found["tracking.store"]["advice"]


def test_help_needs_no_torch(repository: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from medseg_nca.cli.main import cli\n"
        "for command in (['doctor'], ['models'], ['models', 'register'], ['models', 'zoo']):\n"
        "    assert CliRunner().invoke(cli, [*command, '--help']).exit_code == 0\n"
        "heavy = {'torch', 'monai', 'mlflow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("uri", "module", "package"),
    [
        ("postgresql://me:secret@localhost:1/x", "psycopg", "psycopg"),
        ("mysql://me:secret@localhost:1/x", "MySQLdb", "mysqlclient"),
    ],
)
def test_a_missing_driver_is_listed_and_the_rest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, uri: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, found = findings("--tracking-uri", uri)
    assert code == 2
    assert found["tracking.store"]["value"].startswith("missing for ")
    assert package in found["tracking.store"]["value"]
    assert found["tracking.store"]["advice"].startswith("pip install")
    assert "secret" not in json.dumps(found)
    assert found["models.in the package"]["level"] == "ok"  # what is looked at last
    result = CliRunner().invoke(cli, ["models", "list", "--tracking-uri", uri])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "secret" not in result.output
