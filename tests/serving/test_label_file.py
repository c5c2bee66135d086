"""NRRD of a DICOM series has the voxels where ITK, 3D Slicer and OHIF have those of the series."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.io.dicom.build import AXIAL, OBLIQUE, classic, pixels, write
from tests.serving.running import Server, zipped


@pytest.mark.parametrize("extension", [".nrrd", ".seg.nrrd"])
@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_the_order_of_voxels_is_that_of_the_series(
    server: Server, tmp_path: Path, affine: np.ndarray, extension: str
) -> None:
    array = pixels((8, 12, 14))
    files = write(tmp_path / "series", classic(array, affine, modality="MR"))
    packed = zipped({path.name: path.read_bytes() for path in files})
    params = {"result_extension": extension, "result_dtype": "uint8", "result_compress": False}
    answer = server.post(
        "/infer/tiny?output=image", files={"file": ("a.zip", packed)},
        data={"params": json.dumps(params)},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    path = tmp_path / f"label{extension}"
    path.write_bytes(answer.content)
    label = sitk.ReadImage(str(path))
    series = sitk.ReadImage([str(file) for file in files])
    assert label.GetSize() == series.GetSize()
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(label, get)(), getattr(series, get)(), atol=1e-4)
