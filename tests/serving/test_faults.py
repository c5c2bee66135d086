"""Files that this package once got wrong, each sent to a running server."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.serving.running import Server, zipped

pytestmark = pytest.mark.slow
PICTURES = (".png", ".jpg", ".tif")
# Those of which no right mask can be made: several volumes, a part of one, or no rescale slope.
REFUSED = {
    "images": ("bzip2.nrrd",),
    "dicom": (
        "mip_derived", "te_jitter", "te_jitter10", "enh_conc_missing", "ge_time", "philips_dir",
        "slope0", "slope_bad", "midnight",
    ),
}  # fmt: skip
# Files whose voxels are the same, however they are written.
SAME = (
    ("01-mha-without-compressed-size", "label.mha", "label_with_size.mha"),
    ("09-scaled-label", "label.nii.gz", "right.nii.gz"),
)


def outcome(server: Server, content: bytes, model: str) -> tuple[int, str]:
    """Status and what is said; a result comes with the warnings that it has."""
    answer = server.post(f"/infer/{model}?output=json", files={"file": ("a", content)})
    assert answer.status_code in (200, 413, 422), answer.text
    assert "Traceback" not in answer.text
    assert str(server.state) not in answer.text
    if answer.status_code == 200:
        return 200, " ".join(answer.json()["warnings"])
    assert answer.json()["detail"]
    return answer.status_code, str(answer.json()["detail"])


def test_images(rough: Server, shared_data: Callable[[str], Path]) -> None:
    root = shared_data("faults") / "images"
    files = [
        path for path in sorted(root.rglob("*"))
        if path.suffix in (".gz", ".mha", ".nrrd", *PICTURES)
    ]  # fmt: skip
    assert len(files) > 50
    for path in files:
        model = "nuclei" if path.suffix in PICTURES else "tiny"
        status, said = outcome(rough, path.read_bytes(), model)
        if path.name in REFUSED["images"]:
            assert status == 422, path
        elif path.suffix not in PICTURES:  # those may be too large for this server, or constant
            assert status == 200, (path, said)


def test_dicom(rough: Server, shared_data: Callable[[str], Path]) -> None:
    """The model learned from something else, which each result has to say."""
    root = shared_data("faults") / "dicom"
    folders = sorted({path.parent for path in root.rglob("*.dcm")})
    assert len(folders) > 25
    for folder in folders:
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        status, said = outcome(rough, zipped(files), "tiny")
        assert status == (422 if folder.name in REFUSED["dicom"] else 200), (folder, said)


@pytest.mark.parametrize(("folder", "one", "other"), SAME, ids=["mha", "scale"])
def test_the_same_voxels_have_the_same_mask(
    rough: Server, shared_data: Callable[[str], Path], folder: str, one: str, other: str
) -> None:
    root = shared_data("faults") / "images" / folder
    masks = []
    for name in (one, other):
        job = rough.send((root / name).read_bytes(), model="tiny", format="nifti")
        done = rough.wait(job.json())
        content = rough.get(f"/v1/jobs/{done['id']}/outputs/label_map").content
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        masks.append(np.asarray(nib.Nifti1Image.from_bytes(plain).dataobj))
    assert masks[0].any()
    np.testing.assert_array_equal(*masks)
