"""The real OHIF viewer of the wheel of monailabel, and what can be read in its page."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.running import PATIENCE

WHEEL, INSIDE = "monailabel==0.8.5", "monailabel/endpoints/static/ohif/"
LOADED = "globalThis.cornerstone?.cache.getVolumes().some((one) => one.loadStatus?.loaded)"
# The volumes of cornerstone, which draws: the image, and the label map that the panel fills.
READ = """(labels) => {
  const volume = labels
    ? services.segmentationService.getLabelmapVolume("1")
    : cornerstone.cache.getVolumes().find((one) => one.loadStatus?.loaded);
  return {
    size: [...volume.dimensions], origin: [...volume.origin], spacing: [...volume.spacing],
    direction: [...volume.direction],
    values: [...volume.voxelManager.getCompleteScalarDataArray()],
  };
}"""


@dataclass
class PageVolume:
    """A volume as the page holds it.

    Attributes:
        array: ``(columns, rows, planes)``.
        affine: voxel index to LPS millimetres.
    """

    array: np.ndarray
    affine: np.ndarray

    def positions(self) -> np.ndarray:
        """Of all voxels, ``(3, voxels)``, LPS millimetres."""
        index = np.indices(self.array.shape).reshape(3, -1)
        return self.affine[:3, :3] @ index + self.affine[:3, 3:]

    def values_of(self, array: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """What another grid, with an affine to LPS, has at the places of these voxels."""
        back = np.linalg.inv(affine)
        index = back[:3, :3] @ self.positions() + back[:3, 3:]
        near = np.rint(index).astype(int)
        assert np.abs(index - near).max() < 1e-3, "the voxels lie between those of the other grid"
        assert (near >= 0).all()
        return np.asarray(array[tuple(near)]).reshape(self.array.shape)


def ohif_build(folder: Path) -> Path:
    """The build that the wheel holds; the test is skipped where it cannot be had."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*pip, WHEEL], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        pytest.skip(f"{WHEEL} cannot be downloaded: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(next(folder.glob("monailabel-*.whl"))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(INSIDE)])
    return folder / INSIDE


def wait_until(ready: Callable[[], object]) -> None:
    """Ask again and again: the page's policy forbids the browser to do so by itself."""
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)


def read_volume(page: Any, *, labels: bool) -> PageVolume:
    """The image that the page shows, or the label map over it."""
    found = page.evaluate(READ, labels)
    affine = np.eye(4)
    axes = np.array(found["direction"]).reshape(3, 3)  # a row for each axis of the array
    affine[:3, :3] = (axes * np.array(found["spacing"])[:, None]).T
    affine[:3, 3] = found["origin"]
    return PageVolume(np.array(found["values"]).reshape(found["size"], order="F"), affine)
