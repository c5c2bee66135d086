"""Files whose content is not what their name says: the message says what it is."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_volume

NIFTI = nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)).to_bytes()
NIFTI2 = nib.Nifti2Image(np.zeros((9, 9, 9), np.int16), np.eye(4)).to_bytes()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
DICOM = bytes(128) + b"DICM" + bytes(500)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.nii.gz", NIFTI, "NIfTI that is not packed. Rename it to a.nii."),
        ("A.NII.GZ", NIFTI2, "NIfTI that is not packed. Rename it to A.NII."),
        ("a.nii", gzip.compress(NIFTI), "packed by gzip, with NIfTI inside. Rename it to a.nii.gz"),
        ("a.nii.gz", bz2.compress(NIFTI), "packed by bzip2"),
        ("a.nii", lzma.compress(NIFTI), "packed by xz"),
        ("a.nii.gz", b"PK\x03\x04" + bytes(99), "a zip archive"),
        ("a.nii.gz", POINTER, "a Git LFS pointer, which stands for a file that was not fetched"),
        ("a.nii", b"<!DOCTYPE html><html>", "a web page"),
        ("a.nii", DICOM, "DICOM"),
        ("a.nii.gz", gzip.compress(DICOM), "packed by gzip, with DICOM inside"),
        ("a.nii.gz", gzip.compress(gzip.compress(NIFTI)), "with a gzip file inside"),
        ("a.nii", b"NRRD0004\n", "NRRD"),
        ("a.nrrd", b"ObjectType = Image\n", "MetaImage"),
        ("a.nrrd", gzip.compress(b"NRRD0004\n"), "packed by gzip, with NRRD"),
        ("a.mha", NIFTI, "NIfTI"),
        ("a.mha", POINTER, "a Git LFS pointer"),
    ],
)  # fmt: skip
def test_the_message_says_what_the_file_is(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError) as refusal:
        read_volume(tmp_path / name)
    assert name in str(refusal.value)
    assert said in str(refusal.value)
    if "Rename" in said:
        assert "damaged" not in str(refusal.value)
