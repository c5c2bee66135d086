"""`medseg-nca dicom-node`: its settings, and a dry run of its rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.config.sources import flag_of
from medseg_nca.serving.node.settings import ENVIRONMENT, NodeSettings
from tests.io.dicom.build import classic, pixels, write

RULES = (
    "--route", "Modality=MR,SeriesDescription~Hippo -> hippocampus@champion",
    "--route", "Modality=MR,Slices>100 -> zoo:nuclei",
)  # fmt: skip
# A value for each field that is not its default; a new field needs a line here.
OTHER = {
    "aet": "OTHER", "port": "1", "host": "::1", "allow": "A@10.0.0.5", "route": "-> zoo:nuclei",
    "send_to": "B@h:104", "spool": "/spool", "formats": "sr", "settle": "2",
    "expect_count": "ImagesInAcquisition", "tls_cert": "/c", "tls_key": "/k", "tls_ca": "/a",
    "insecure": "true", "keep": "0", "max_object": "3", "max_associations": "4",
    "reserve_gb": "5", "report_failures": "sr", "metrics_port": "6", "max_voxels": "7",
    "queue": "8", "deadline": "9", "keep_gb": "10", "device": "cpu", "workers": "11",
    "acceptable": "0.9", "miss_rate": "0.1", "on_reject": "hold",
    "engine": "reference", "tracking_uri": "sqlite:///x.db", "poll": "12", "deliver_hours": "14",
    "dicomweb_auth": "/w",
    "dicomweb_ca": "/ca", "dicomweb_timeout": "13", "dicomweb_insecure": "true",
}  # fmt: skip


def run(*args: str, **environment: str) -> tuple[int, str]:
    clean = {"MLFLOW_TRACKING_URI": None, **environment}
    result = CliRunner().invoke(cli, ["dicom-node", *args], env=clean)
    return result.exit_code, result.stdout if result.exit_code == 0 else result.output


def test_every_field_has_a_flag_a_variable_and_a_key(tmp_path: Path) -> None:
    assert set(OTHER) == set(NodeSettings.model_fields)
    file = tmp_path / "node.yaml"
    file.write_text("".join(f"{key}: {json.dumps(text)}\n" for key, text in OTHER.items()))
    variables = {f"{ENVIRONMENT}{key.upper()}": text for key, text in OTHER.items()}
    flags = [
        flag_of(key)
        if NodeSettings.model_fields[key].annotation is bool
        else f"{flag_of(key)}={text}"
        for key, text in OTHER.items()
    ]
    trees = []
    for args, environment in ((["--settings", str(file)], {}), ([], variables), (flags, {})):
        code, out = run("--print-settings", "--json", *args, **environment)
        assert code == 0, out
        trees.append(json.loads(out)["settings"])
    assert trees[0] == trees[1] == trees[2]
    default = json.loads(run("--print-settings", "--json")[1])["settings"]
    assert not [key for key in OTHER if default[key] == trees[0][key]]


def test_a_dry_run_says_which_rule_takes_a_series_and_why_not_the_others(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    mr = classic(pixels(), modality="MR", SeriesDescription="T1 hippo", series="a")
    write(tmp_path / "data" / "a", mr)
    write(
        tmp_path / "data" / "b",
        classic(pixels(), modality="MR", SeriesDescription="T2", series="b"),
    )
    code, out = run(*RULES, "--explain", str(tmp_path / "data"), "--json")
    assert code == 0, out
    taken, other = sorted(json.loads(out)["series"], key=lambda one: str(one["description"]))
    assert (taken["rule"], taken["models"]) == (1, ["hippocampus@champion"])
    assert other["rule"] is None
    assert [rule["reasons"] for rule in other["rules"]] == [
        ["SeriesDescription~hippo fails: the series has 'T2'."],
        ["Slices>100 fails: the series has '5'."],
    ]
    code, out = run(*RULES, "--explain", str(tmp_path / "data"))
    words = " ".join(out.split())
    assert code == 0
    assert "takes it: hippocampus@champion" in words
    assert "no rule takes it" in words


def test_rules_of_a_file_stand_in_a_list_and_name_folders_beside_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    file = tmp_path / "node.yaml"
    file.write_text("route:\n  - Modality=MR,Rows>5 -> run\n  - -> tiny=run,zoo:nuclei\n")
    code, out = run("--settings", str(file), "--print-settings", "--json")
    assert code == 0, out
    assert json.loads(out)["settings"]["route"] == [
        f"Modality=MR,Rows>5 -> {tmp_path / 'run'}",
        f"-> tiny={tmp_path / 'run'},zoo:nuclei",
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "No rule says which model"),
        (("--route", "Modality=MR"), "has no arrow"),
        ((*RULES, "--formats", "pdf"), "--formats: 'pdf' is none"),
        (RULES, "--allow: nobody may send"),
        ((*RULES, "--aet", "A" * 17), "cannot be an AE title"),
        ((*RULES, "--allow", "A@*", "--host", "0.0.0.0"), "any machine may call itself so"),
        ((*RULES, "--allow", "A@h", "--keep", "0"), "they go nowhere"),
        ((*RULES, "--allow", "A@h", "--send-to", "B"), "is no address"),
        ((*RULES, "--allow", "A@h", "--expect-count", "PatientID"), "no tag of DICOM that holds"),
        ((*RULES, "--allow", "A@h", "--send-to", "http://h/web"), "without TLS"),
        ((*RULES, "--allow", "A@h", "--tls-cert", "/none"), "a certificate and its key"),
        (("--json",), "--json is for --explain"),
        (("list", "--spool", "/none"), "is no spool of a node"),
        (("retry", "--spool", "/none"), "Name one JOB"),
    ],
)
def test_what_no_node_can_do_is_named(args: tuple[str, ...], message: str) -> None:
    code, out = run(*args)
    assert code == 2
    assert message in " ".join(out.split())
