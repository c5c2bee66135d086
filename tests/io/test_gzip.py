"""Members of a gzip stream, and what follows them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_label

LABELS = np.random.default_rng(7).integers(0, 3, (20, 18, 16)).astype(np.uint8)
CONTENT = nib.Nifti1Image(LABELS, np.eye(4)).to_bytes()
PACKED = gzip.compress(CONTENT)
HALVES = gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:])

WHOLE = {
    "one byte behind it": PACKED + b"x",
    "two bytes behind it": PACKED + b"tr",
    "text behind it": PACKED + b"\ntrailing words" * 100,
    "zeros behind it": PACKED + bytes(5000),
    "zeros and text behind it": PACKED + bytes(512) + b"x",
    "two members": HALVES,
    "two members and text": HALVES + b"trailing",
    "an empty member at the end, as bgzip writes": PACKED + gzip.compress(b""),
    "many members": b"".join(
        gzip.compress(CONTENT[start : start + 100]) for start in range(0, len(CONTENT), 100)
    ),
    "a few bytes more than the header says": gzip.compress(CONTENT + b"footer"),
    "padding inside": gzip.compress(CONTENT + bytes(2 * len(CONTENT))),
}
NOT_WHOLE = {
    "no checksum": PACKED[:-8],
    "half a checksum": PACKED[:-2],
    "a wrong checksum": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "a wrong length": PACKED[:-4] + bytes(4),
    "fewer voxels, well packed": gzip.compress(CONTENT[:-1]),
    "the second member without its end": HALVES[:-9],
    "the second member begun": PACKED + gzip.compress(CONTENT)[:40],
    "text where a member is missing": gzip.compress(CONTENT[:1000]) + b"text",
    "zeros where a member is missing": gzip.compress(CONTENT[:1000]) + bytes(9000),
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE.keys())
def test_a_stream_with_all_voxels_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nii.gz").write_bytes(content)
    np.testing.assert_array_equal(read_label(tmp_path / "a.nii.gz").array[0], LABELS)


@pytest.mark.parametrize("content", NOT_WHOLE.values(), ids=NOT_WHOLE.keys())
def test_a_stream_with_a_part_missing_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.nii\.gz: .*truncated"):
        read_label(tmp_path / "a.nii.gz")


def test_two_files_in_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(PACKED + PACKED)
    with pytest.raises(ImageError, match="holds more than its header says"):
        read_label(tmp_path / "a.nii.gz")
