"""A ``.npz`` file of anybody's."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.errors import ImageError
from medseg_nca.io.npz import read_npz


def member(path: Path, content: bytes, name: str = "images.npy") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def header(shape: str, kind: str = "|u1") -> bytes:
    """A .npy file that claims a shape and holds nothing."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_arrays_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.arange(6).reshape(2, 3), labels=np.ones(2))
    arrays = read_npz(path, lambda name: name == "images")
    assert list(arrays) == ["images"]
    assert np.array_equal(arrays["images"], np.arange(6).reshape(2, 3))


def test_objects_are_refused_and_nothing_is_run(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ImageError, match=r"a\.npz: images holds values of the type object"):
        read_npz(path)


@pytest.mark.parametrize("shape", ["(1000000000, 1000)", "(2**40,)", "(99, 99)"])
def test_a_claim_beyond_the_file_takes_no_memory(tmp_path: Path, shape: str) -> None:
    path = member(tmp_path / "a.npz", header(shape.replace("2**40", str(2**40))))
    with pytest.raises(ImageError, match=r"claims the shape|at most"):
        read_npz(path)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut off"])
def test_no_npz_is_told_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.npz"):
        read_npz(path)


def test_a_damaged_member_is_told_by_name(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=np.random.default_rng(0).integers(0, 255, (40, 40)))
    content = bytearray(buffer.getvalue())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "a.npz"
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match=r"a\.npz: is no usable"):
        read_npz(path)
