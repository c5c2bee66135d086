"""`medseg-nca serve` takes each setting from a file, the environment and a flag."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.config.sources import flag_of
from medseg_nca.serving.security.listening import trusted
from medseg_nca.serving.settings import ENVIRONMENT, ServeSettings

# A value for each field that is not its default; a new field needs a line here.
OTHER = {
    "models": "zoo:nuclei", "studies": "/images", "host": "::1", "port": "9", "users": "/u",
    "tls_cert": "/c", "tls_key": "/k", "insecure": "true", "trust_proxy": "10.0.0.0/24",
    "state": "/state", "max_body": "1", "max_parts": "2", "max_voxels": "3", "max_inflated": "4",
    "max_members": "5", "queue": "6", "deadline": "7", "header_seconds": "8", "keep_days": "9",
    "keep_gb": "10", "session_hours": "11", "token_hours": "12.5", "device": "cpu", "workers": "13",
    "tracking_uri": "sqlite:///x.db", "poll": "14", "dicomweb_auth": "/a", "dicomweb_ca": "/ca",
    "dicomweb_timeout": "15", "dicomweb_insecure": "yes", "fetch_seconds": "16", "cache_gb": "17",
    "store": "true", "engine": "reference", "ohif": "/ohif", "node": "/node.yaml",
    "deliver_hours": "18", "acceptable": "0.9", "miss_rate": "0.01",
}  # fmt: skip


def run(*args: str, **environment: str) -> tuple[int, str]:
    clean = {"MLFLOW_TRACKING_URI": None, **environment}
    result = CliRunner().invoke(cli, ["serve", *args], env=clean)
    return result.exit_code, result.output


def printed(*args: str, **environment: str) -> dict[str, dict[str, object]]:
    code, out = run("--print-settings", "--json", *args, **environment)
    assert code == 0, out
    found: dict[str, dict[str, object]] = json.loads(out)
    return found


def test_every_field_has_a_flag_a_variable_and_a_key(tmp_path: Path) -> None:
    assert set(OTHER) == set(ServeSettings.model_fields)
    file = tmp_path / "serve.yaml"
    file.write_text("".join(f"{key}: {json.dumps(text)}\n" for key, text in OTHER.items()))
    by_file = printed("--settings", str(file))
    variables = {f"{ENVIRONMENT}{key.upper()}": text for key, text in OTHER.items()}
    by_environment = printed(**variables)
    flags = [
        flag_of(key)
        if ServeSettings.model_fields[key].annotation is bool
        else f"{flag_of(key)}={text}"
        for key, text in OTHER.items()
    ]
    by_flags = printed(*flags)
    assert by_file["settings"] == by_environment["settings"] == by_flags["settings"]
    assert set(by_file["origins"].values()) == {str(file)}
    assert set(by_environment["origins"].values()) == set(variables)
    assert set(by_flags["origins"].values()) == {flag_of(key) for key in OTHER}
    default = printed()["settings"]
    assert not [key for key in OTHER if default[key] == by_flags["settings"][key]]


def test_a_flag_undoes_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("insecure: true\nmodels: [zoo:nuclei, left=run]\n")
    (tmp_path / "run").mkdir()
    settings = printed("--settings", str(file), "--no-insecure")["settings"]
    assert settings["insecure"] is False
    assert settings["models"] == ["zoo:nuclei", f"left={tmp_path / 'run'}"]


def test_passwords_in_urls_are_not_printed() -> None:
    for how in (("--tracking-uri", "postgresql://me:treasure@host/x"), ()):
        code, out = run("--print-settings", *how, MLFLOW_TRACKING_URI="http://a:treasure@h")
        assert code == 0
        assert "treasure" not in out
        assert "MLFLOW_TRACKING_URI" in out or "--tracking-uri" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "No model is named"),
        (("--port", "70000"), "'--port': Input should be less than or equal to 65535"),
        (("--deadline", "nan"), "'--deadline': Input should be a finite number"),
        (("--trust-proxy", "*"), "'*' is no address and no network"),
        (("--trust-proxy", "0.0.0.0/0"), "would believe everybody"),
        (("--models", "zoo:nuclei", "--users", "/none"), "--users: there is no /none"),
        (("--models", "zoo:nuclei", "--tls-cert", "/none"), "a certificate and its key"),
        (("--settings", "/none.yaml"), "/none.yaml: cannot be read"),
        (("--json",), "--json is for --print-settings"),
    ],
)
def test_what_cannot_be_served_is_named(args: tuple[str, ...], message: str) -> None:
    code, out = run(*args)
    assert code == 2
    assert message in " ".join(out.split())


def test_a_proxy_is_also_known_by_its_address_on_a_socket_of_both_kinds() -> None:
    settings = ServeSettings(trust_proxy=("10.0.0.2", "fd00::/8"))
    assert trusted(settings) == ["10.0.0.2/32", "::ffff:10.0.0.2/128", "fd00::/8"]
