"""The data set that the tests of `data check` spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.check.volumes import image, label, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good cases; each test spoils one thing."""
    root = tmp_path / "set"
    for number in range(4):
        save(root / "images" / f"c{number}.nii.gz", image(number))
        save(root / "labels" / f"c{number}.nii.gz", label(number))
    return root
