"""The files of docs/deploy: their settings, variables, flags and commands exist and fit together.

No docker and no nginx is asked for here: what needs them is checked only where they are installed.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg_nca.config.sources import Resolved, resolve
from medseg_nca.io.dicomweb.server import PASSWORD, TOKEN, USER
from medseg_nca.serving.node.settings import ENVIRONMENT as NODE
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.security.listening import check_listening, check_pacs
from medseg_nca.serving.settings import ENVIRONMENT, ServeSettings
from tests.test_docs import check

DEPLOY = Path(__file__).parent.parent / "docs" / "deploy"
# Shell, and variables of other programs.
DICOMWEB = {USER, PASSWORD, TOKEN}


def variables(name: str) -> dict[str, str]:
    """An environment file, as systemd and compose read it."""
    lines = (DEPLOY / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def resolved(file: Path | None = None, **environment: str) -> Resolved[ServeSettings]:
    return resolve(ServeSettings, prefix=ENVIRONMENT, environment=environment, flags={}, file=file)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return tree


def unit(name: str = "medseg-nca.service") -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(DEPLOY / name)
    return found


def test_the_settings_file_and_its_secrets_are_settings() -> None:
    environment = variables("serve.env")
    found = resolved(DEPLOY / "serve.yaml", **environment)
    check_listening(found.settings, users=1)
    check_pacs(found.settings)
    assert {name for name in environment if not name.startswith(ENVIRONMENT)} <= DICOMWEB
    assert found.origins["tracking_uri"] == "MEDSEG_SERVE_TRACKING_URI"
    assert found.settings.limits.body_bytes == 512_000_000


def test_the_unit_starts_a_command_that_exists_and_waits_for_the_job_at_work() -> None:
    service = unit()["Service"]
    program, *args = shlex.split(service["ExecStart"])
    assert program == "/opt/medseg/bin/medseg-nca"
    check(args)
    settings = resolved(DEPLOY / "serve.yaml").settings
    # The job at work, its process, and a result that is just being stored.
    longest = settings.deadline + 20 + 2 * settings.dicomweb_timeout
    assert float(service["TimeoutStopSec"]) > longest
    assert settings.state == Path("/var/lib") / service["StateDirectory"].split()[0]
    assert args[args.index("--settings") + 1] == "/etc/medseg/serve.yaml"
    uri = variables("serve.env")["MEDSEG_SERVE_TRACKING_URI"]
    assert f"/var/lib/{service['StateDirectory'].split()[1]}/" in uri


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", ["medseg-nca.service", "medseg-nca-node.service"])
def test_systemd_takes_the_unit(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    text = (DEPLOY / name).read_text()
    file.write_text(text.replace("/opt/medseg/bin/medseg-nca", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert name not in done.stderr, done.stderr


def test_compose_starts_a_server_with_settings_that_fit(compose: dict[str, Any]) -> None:
    server = compose["services"]["medseg"]
    assert all(isinstance(value, str) for value in server["environment"].values())
    found = resolved(**server["environment"]).settings
    check(server["command"])
    check_listening(found, users=1)
    check_pacs(found)
    minutes = int(re.fullmatch(r"(\d+)m", server["stop_grace_period"])[1])  # type: ignore[index]
    assert minutes * 60 > found.deadline + 20 + 2 * found.dicomweb_timeout
    mounted = {volume.split(":")[1] for volume in server["volumes"]}
    assert found.users is not None
    assert {str(found.state), str(found.users.parent)} == mounted
    assert str(found.pacs.host if found.pacs else "") in compose["services"]
    assert f":{found.port}/health/ready" in " ".join(server["healthcheck"]["test"])
    build = server["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_only_nginx_and_dicom_are_reached_from_outside(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {name for name, one in services.items() if "ports" in one} == {"nginx", "orthanc"}
    assert services["orthanc"]["ports"] == ["4242:4242"]
    assert set(services["medseg"]["networks"]) == {"inside"}
    assert compose["networks"]["inside"]["internal"] is True
    proxy = services["nginx"]["networks"]["inside"]["ipv4_address"]
    assert services["medseg"]["environment"]["MEDSEG_SERVE_TRUST_PROXY"] == proxy
    for volume in services["nginx"]["volumes"]:
        source = volume.split(":")[0]
        assert source == "./tls" or (DEPLOY / source).is_file()


def test_secrets_of_compose_are_variables_that_exist(compose: dict[str, Any]) -> None:
    names = set(variables("compose.env.example"))
    assert names - {"ORTHANC__REGISTERED_USERS"} <= DICOMWEB
    assert compose["services"]["medseg"]["env_file"] == ["compose.env"]
    ignored = (DEPLOY.parent.parent / ".gitignore").read_text().split()
    assert "compose.env" in ignored
    kept_out = (DEPLOY.parent.parent / ".dockerignore").read_text().split()
    secret = {"docs/deploy/compose.env", "docs/deploy/users", "docs/deploy/tls"}
    assert secret <= set(kept_out)  # the image is built from the whole clone


def test_nginx_forwards_what_the_server_believes(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    assert "access_log off;" in text  # addresses name series and patients
    for line in ("X-Forwarded-For $remote_addr", "X-Forwarded-Proto $scheme", "Host $http_host"):
        assert f"proxy_set_header {line};" in text
    settings = ServeSettings()
    assert f"client_max_body_size {settings.max_body:.0f}m;" in text
    seconds = int(re.search(r"proxy_read_timeout (\d+)s", text)[1])  # type: ignore[index]
    assert seconds > settings.deadline
    assert text.count("{") == text.count("}")
    (replaced,) = re.findall(r"s\|([^|]+)\|", " ".join(compose["services"]["nginx"]["command"]))
    assert replaced in text


def test_the_audit_log_is_rotated_without_losing_lines() -> None:
    text = (DEPLOY / "logrotate.conf").read_text()
    state = resolved(DEPLOY / "serve.yaml").settings.state
    node = resolve(NodeSettings, prefix=NODE, environment={}, flags={}, file=DEPLOY / "node.yaml")
    assert f"{state}/audit.log {node.settings.spool}/audit.log {{" in text
    assert not re.search(r"^\s*copytruncate", text, re.MULTILINE)
    assert "create 0600 medseg medseg" in text


def test_the_node_of_compose_fits_its_orthanc(compose: dict[str, Any]) -> None:
    node, orthanc = compose["services"]["node"], compose["services"]["orthanc"]
    found = resolve(NodeSettings, prefix=NODE, environment=node["environment"], flags={}).settings
    found.check()
    check(node["command"])
    known = json.loads(orthanc["environment"]["ORTHANC__DICOM_MODALITIES"])
    assert known == {"medseg": [found.aet, "node", found.port]}
    assert node["volumes"] == [f"medseg-spool:{found.spool}"]
    minutes = int(node["stop_grace_period"].removesuffix("m"))
    assert minutes * 60 > found.deadline + 110
    script = (DEPLOY / "push.lua").read_text()
    assert "/modalities/medseg/store" in script
    assert "\n".join(script.splitlines()[1:]) in (DEPLOY.parent / "node.md").read_text()


def test_the_image_has_what_the_server_needs() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert "[serve]" in text
    assert 'ENTRYPOINT ["/opt/medseg/bin/medseg-nca"]' in text
    check(["serve"])


def test_the_unit_of_the_node_fits_its_settings() -> None:
    environment = variables("node.env")
    found = resolve(
        NodeSettings, prefix=NODE, environment=environment, flags={}, file=DEPLOY / "node.yaml"
    ).settings
    found.check()
    text = (DEPLOY / "medseg-nca-node.service").read_text()
    program, *args = shlex.split(re.findall("ExecStart=(.*)", text)[0])
    assert program == "/opt/medseg/bin/medseg-nca"
    check(args)
    assert f"StateDirectory={found.spool.name} medseg-mlflow" in text
    assert found.spool.parent == Path("/var/lib")
    assert float(re.findall(r"TimeoutStopSec=(\d+)", text)[0]) > found.deadline + 110
