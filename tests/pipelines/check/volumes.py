"""Small volumes for the tests of `data check`, and what it found."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.pipelines.check_report import CheckReport

SHAPE = (6, 5, 4)


def save(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)


def image(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def label(seed: int) -> NDArray[np.uint8]:
    array = np.zeros(SHAPE, np.uint8)
    array[1 : 3 + seed % 3, 1 : 2 + seed // 3, 1:3] = 1
    return array


def found(report: CheckReport) -> set[tuple[str, str, str | None]]:
    return {(finding.level, finding.code, finding.case) for finding in report.findings}


def message(report: CheckReport, code: str) -> str:
    return next(finding.message for finding in report.findings if finding.code == code)
