"""Settings from a file, the environment and flags: which wins, and what is said of a slip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field, SecretStr

from medseg_nca.config.base import Settings
from medseg_nca.config.sources import AlsoFrom, PathSetting, Resolved, resolve
from medseg_nca.errors import ConfigError


class Example(Settings):
    port: int = Field(8000, ge=0)
    names: tuple[str, ...] = ()
    folder: PathSetting | None = None
    url: Annotated[str | None, AlsoFrom("OTHER_URL")] = None
    password: SecretStr | None = None


def found(
    file: Path | None = None, flags: dict[str, Any] | None = None, **environment: str
) -> Resolved[Example]:
    return resolve(Example, prefix="X_", environment=environment, flags=flags or {}, file=file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("port: 1\nnames: [a, b]\nfolder: inside\n")
    return path


def test_a_flag_wins_over_the_environment_and_that_over_the_file(file: Path) -> None:
    assert found().settings.port == 8000
    assert found(file).settings.port == 1
    assert found(file, X_PORT="2").settings.port == 2
    assert found(file, {"port": "3"}, X_PORT="2").settings.port == 3
    nothing_given = {"port": None, "names": ()}
    assert found(file, nothing_given, X_PORT="").settings == found(file).settings


def test_it_is_told_where_each_value_comes_from(file: Path) -> None:
    origins = found(file, {"names": ("c",)}, OTHER_URL="u").origins
    assert origins == {
        "port": str(file), "names": "--names", "folder": str(file), "url": "OTHER_URL",
        "password": "default",
    }  # fmt: skip
    assert found(OTHER_URL="u", X_URL="v").settings.url == "v"


def test_the_file_may_be_named_by_the_environment(file: Path) -> None:
    assert found(X_SETTINGS=str(file)).settings.port == 1


def test_a_path_in_a_file_starts_from_its_folder(
    file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    assert found(file).settings.folder == file.parent / "inside"
    assert found(X_FOLDER="inside").settings.folder == here / "inside"


@pytest.mark.parametrize(
    ("text", "flags", "environment", "message"),
    [
        ("prot: 1", {}, {}, r"settings\.yaml: unknown key 'prot'; did you mean 'port'\?"),
        ("port: -1", {}, {}, r"settings\.yaml: port: .*greater than or equal to 0"),
        ("", {}, {"X_PROT": "1"}, "'X_PROT'; did you mean 'X_PORT'"),
        ("", {}, {"X_PORT": "many"}, "X_PORT: port: .*valid integer"),
        ("", {"port": "many"}, {}, "--port: port: .*valid integer"),
        ("[1]", {}, {}, "must hold 'key: value' settings"),
    ],
)
def test_a_slip_is_named_with_its_place(
    file: Path, text: str, flags: dict[str, Any], environment: dict[str, str], message: str
) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        found(file, flags, **environment)


def test_a_secret_is_not_shown(file: Path) -> None:
    file.write_text("password: [hidden, treasure]\n")
    with pytest.raises(ConfigError) as caught:
        found(file)
    assert "treasure" not in str(caught.value)
    secret = found(X_PASSWORD="treasure", X_URL="http://me:key@host/")
    assert secret.settings.password is not None
    assert secret.settings.password.get_secret_value() == "treasure"
    text = secret.to_yaml(lambda text: text.replace("me:key@", ""))
    assert "treasure" not in text
    assert "key@" not in text


def test_what_is_printed_is_a_settings_file(file: Path) -> None:
    before = found(file, X_URL="http://host/")
    lines = before.to_yaml().splitlines()
    assert lines[0].split() == ["port:", "1", "#", str(file)]
    assert yaml.safe_load(before.to_yaml())["names"] == ["a", "b"]
    file.write_text("\n".join(line for line in lines if not line.startswith("password")))
    assert found(file).settings == before.settings
