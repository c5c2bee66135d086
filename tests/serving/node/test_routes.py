"""Rules say which model computes a series, and why a rule does not take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.records import Series
from medseg_nca.io.dicom.scan import scan
from medseg_nca.serving.node.routes import choose, entries_of, parse_route, parse_routes, series_of
from tests.io.dicom.build import classic, pixels, write

HIPPOCAMPUS = "Modality=MR,SeriesDescription~Hippo -> hippocampus@champion"


def series(folder: Path, modality: str = "MR", **tags: object) -> Series:
    write(folder, classic(pixels(), modality=modality, **tags))
    return series_of(scan(folder))


def test_the_first_rule_that_fits_takes_a_series(tmp_path: Path) -> None:
    routes = parse_routes(
        [HIPPOCAMPUS, "Modality=MR -> zoo:hippocampus, zoo:nuclei", "-> zoo:nuclei"]
    )
    found = series(tmp_path / "a", SeriesDescription="T1 HIPPOCAMPUS")
    assert choose(routes, found).route == routes[0]
    other = choose(routes, series(tmp_path / "b", SeriesDescription="T2"))
    assert other.route is not None
    assert other.route.models == ("zoo:hippocampus", "zoo:nuclei")
    assert [verdict.reasons for verdict in other.verdicts] == [
        ("SeriesDescription~hippo fails: the series has 'T2'.",), ()
    ]  # fmt: skip
    assert choose(routes, series(tmp_path / "c", "CT")).route == routes[2]


def test_a_series_that_no_rule_takes_is_told_each_condition(tmp_path: Path) -> None:
    routes = parse_routes(["Modality=MR,Slices>20,SeriesDescription~Hippo -> zoo:hippocampus"])
    choice = choose(routes, series(tmp_path, "CT", SeriesDescription=None))
    assert choice.route is None
    assert choice.verdicts[0].reasons == (
        "Modality=mr fails: the series has 'CT'.",
        "SeriesDescription~hippo fails: the series has ''.",
        "Slices>20 fails: the series has '5'.",
    )


def test_results_that_come_back_are_taken_by_no_rule(tmp_path: Path) -> None:
    routes = parse_routes(["-> zoo:nuclei"])
    overlay = choose(routes, series(tmp_path / "a", "OT", Manufacturer="medseg_nca"))
    assert (overlay.route, "overlay" in overlay.refused) == (None, True)
    written = choose(routes, series(tmp_path / "b", "MR", Manufacturer="medseg_nca"))
    assert written.route is not None  # by `dicom write`


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Modality=MR", "has no arrow ->"),
        ("Modality=MR -> ,", "names no model behind the arrow"),
        ("Modalty=MR -> zoo:nuclei", "conditions are wrong.*Modality"),
        ("MR -> zoo:nuclei", "'MR' is no condition"),
        ("-> a b=zoo:nuclei", "its model is wrong: the name 'a b' cannot stand in a URL"),
    ],
)
def test_an_error_names_the_rule_and_its_part(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_route(text)
    assert repr(text) in error.value.message
    assert "->" in str(error.value.hint)


def test_each_model_of_the_rules_is_served_once() -> None:
    routes = parse_routes(["Modality=CT -> zoo:nuclei", "-> zoo:nuclei,hip=zoo:hippocampus"])
    entries, of_rules = entries_of(routes, ["zoo:nuclei,zoo:hippocampus"])
    assert [entry.name for entry in entries] == ["nuclei", "hippocampus", "hip"]
    assert {text: entry.name for text, entry in of_rules.items()} == {
        "zoo:nuclei": "nuclei", "zoo:hippocampus": "hippocampus", "hip=zoo:hippocampus": "hip"
    }  # fmt: skip
    with pytest.raises(ConfigError, match="No rule"):
        parse_routes([])
