"""Tiny files to build data sets of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def put() -> Callable[..., Path]:
    """``put(path, shape=..., value=...)`` writes a NIfTI file, a picture, JSON or text."""

    def write(path: Path, content: Any = (4, 4, 3)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(content), encoding="utf-8")
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            _write_image(path, content)
        return path

    return write


def _write_image(path: Path, content: Any) -> None:
    array = (
        np.arange(np.prod(content), dtype=np.uint8).reshape(content)
        if isinstance(content, tuple)
        else np.asarray(content)
    )
    if path.name.endswith((".nii.gz", ".nii")):
        nib.Nifti1Image(array, np.eye(4)).to_filename(path)
        return
    from PIL import Image

    Image.fromarray(array).save(path)
