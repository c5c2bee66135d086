"""The table of the ten tasks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from medseg_nca.datasets.decathlon import SOURCES, find_source
from medseg_nca.errors import DataError


def test_addresses_and_checksums_are_those_that_monai_knows() -> None:
    spec = importlib.util.find_spec("monai")
    assert spec is not None
    assert spec.origin is not None
    # Read, not imported: that would load torch.
    text = (Path(spec.origin).parent / "apps" / "datasets.py").read_text()
    assert len(SOURCES) == 10
    for name, source in SOURCES.items():
        assert f'"{name}": "{source.md5}"' in text
        assert f'"{name}": "{source.url}"' in text


@pytest.mark.parametrize(
    "name", ["Task04_Hippocampus", "hippocampus", "task04", "TASK04-hippocampus"]
)
def test_a_task_is_found_by_parts_of_its_name(name: str) -> None:
    assert find_source(name).name == "Task04_Hippocampus"


def test_an_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'Task09_Spleen'"):
        find_source("Task09_Splen")
