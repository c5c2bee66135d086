"""Voxels of NRRD and MetaImage: every stream is decoded whole, or the file is refused."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_label, read_volume

LABELS = np.random.default_rng(5).integers(0, 3, (6, 5, 4)).astype("<i2")  # x, y, z
VOXELS = LABELS.tobytes(order="F")
TEXT = " ".join(str(value) for value in LABELS.ravel(order="F")).encode() + b"\n"


def mha(
    path: Path, data: bytes, *lines: str, sizes: str = "6 5 4", kind: str = "MET_SHORT"
) -> Path:
    """A file as other programs write it, with the lines given."""
    head = ["ObjectType = Image", f"NDims = {len(sizes.split())}", *lines, "Offset = 1 2 3",
            "ElementSpacing = 1 1 2", f"DimSize = {sizes}", f"ElementType = {kind}",
            "ElementDataFile = LOCAL"]  # fmt: skip
    path.write_bytes("\n".join(head).encode() + b"\n" + data)
    return path


def nrrd(path: Path, data: bytes, *lines: str, sizes: str = "6 5 4") -> Path:
    """A file as other programs write it, with the lines given."""
    head = ["NRRD0004", "type: short", f"dimension: {len(sizes.split())}", f"sizes: {sizes}",
            *lines, "", ""]  # fmt: skip
    path.write_bytes("\n".join(head).encode() + data)
    return path


def windows(path: Path, last: bytes) -> Path:
    """The same with other line ends in its header, up to its last word."""
    content = path.read_bytes()
    end = content.index(last) + len(last) + 1
    path.write_bytes(content[:end].replace(b"\n", b"\r\n") + content[end:])
    return path


PACKED_MHA: dict[str, Callable[[Path], Path]] = {
    "without a size": lambda path: mha(path, zlib.compress(VOXELS), "CompressedData = True"),
    "with a wrong size": lambda path: mha(
        path, zlib.compress(VOXELS), "CompressedData = True", "CompressedDataSize = 7"
    ),
    "with a size of zero": lambda path: mha(
        path, zlib.compress(VOXELS), "CompressedData = true", "CompressedDataSize = 0"
    ),
    "1 for true": lambda path: mha(path, zlib.compress(VOXELS), "CompressedData = 1"),
    "t for true": lambda path: mha(path, zlib.compress(VOXELS), "CompressedData = t"),
    "gzip": lambda path: mha(path, gzip.compress(VOXELS), "CompressedData = True"),
    "something behind it": lambda path: mha(
        path, zlib.compress(VOXELS) + b"\nend", "CompressedData = True"
    ),
    "big endian": lambda path: mha(
        path, zlib.compress(LABELS.astype(">i2").tobytes(order="F")),
        "CompressedData = True", "BinaryDataByteOrderMSB = True",
    ),
}  # fmt: skip
PLAIN_MHA: dict[str, Callable[[Path], Path]] = {
    "raw": lambda path: mha(path, VOXELS),
    "0 for false": lambda path: mha(path, VOXELS, "CompressedData = 0"),
    "colons": lambda path: mha(path, VOXELS, "CompressedData: False", "BinaryData: True"),
    "text": lambda path: mha(path, TEXT, "BinaryData = False"),
    "at the end": lambda path: mha(path, b"a preview" + VOXELS, "HeaderSize = -1"),
    "line ends of Windows": lambda path: windows(mha(path, VOXELS), b"LOCAL"),
    "named in a comment": lambda path: mha(path, VOXELS, "Comment = no ElementDataFile"),
}
NRRDS: dict[str, Callable[[Path], Path]] = {
    "raw": lambda path: nrrd(path, VOXELS, "encoding: raw", "endian: little"),
    "raw at the end": lambda path: nrrd(
        path, b"a preview" + VOXELS, "encoding: raw", "endian: little", "byte skip: -1"
    ),
    "skips": lambda path: nrrd(
        path, b"a\nb\nabc" + VOXELS, "encoding: raw", "endian: little", "line skip: 2",
        "byteskip: 3",
    ),
    "gzip": lambda path: nrrd(path, gzip.compress(VOXELS), "encoding: gzip", "endian: little"),
    "gz of two members": lambda path: nrrd(
        path, gzip.compress(VOXELS[:50]) + gzip.compress(VOXELS[50:]), "encoding: gz",
        "endian: little",
    ),
    "gzip with skips": lambda path: nrrd(
        path, b"a line\n" + gzip.compress(b"abcd" + VOXELS), "encoding: gzip", "endian: little",
        "line skip: 1", "byte skip: 4",
    ),
    "big endian": lambda path: nrrd(
        path, LABELS.astype(">i2").tobytes(order="F"), "encoding: raw", "endian: big"
    ),
    "text": lambda path: nrrd(path, TEXT, "encoding: text"),
    "line ends of Windows": lambda path: windows(
        nrrd(path, VOXELS, "encoding: raw", "endian: little"), b"little\n"
    ),
    "ascii": lambda path: nrrd(path, TEXT, "encoding: ascii"),
    "hex": lambda path: nrrd(path, VOXELS.hex().encode(), "encoding: hex", "endian: little"),
}  # fmt: skip


@pytest.mark.parametrize("make", PACKED_MHA.values(), ids=PACKED_MHA.keys())
def test_a_packed_metaimage_is_read_whatever_its_header_says_of_the_packing(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    label = read_label(make(tmp_path / "a.mha"))
    np.testing.assert_array_equal(label.array[0], LABELS)
    np.testing.assert_allclose(label.affine, np.diag([-1, -1, 2, 1]) + _offset(-1, -2, 3))


@pytest.mark.parametrize("make", PLAIN_MHA.values(), ids=PLAIN_MHA.keys())
def test_a_metaimage_gives_what_itk_gives(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    _is_that_of_itk(make(tmp_path / "a.mha"))


@pytest.mark.parametrize("make", NRRDS.values(), ids=NRRDS.keys())
def test_every_encoding_of_nrrd_gives_what_itk_gives(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    _is_that_of_itk(make(tmp_path / "a.nrrd"))


def _is_that_of_itk(path: Path) -> None:
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], LABELS)
    peer = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(volume.array[0], peer.transpose(2, 1, 0))


def _offset(*place: float) -> Any:
    moved = np.zeros((4, 4))
    moved[:3, 3] = place
    return moved


BROKEN: dict[str, Callable[[Path], Path]] = {
    "mha, a stream cut short": lambda folder: mha(
        folder / "a.mha", zlib.compress(VOXELS)[:-9], "CompressedData = True"
    ),
    "mha, a stream of fewer voxels": lambda folder: mha(
        folder / "a.mha", zlib.compress(VOXELS[:-2]), "CompressedData = True"
    ),
    "mha, raw where packed is said": lambda folder: mha(
        folder / "a.mha", VOXELS, "CompressedData = True"
    ),
    "mha, text that ends": lambda folder: mha(folder / "a.mha", TEXT[:-5], "BinaryData = False"),
    "mha, text that is none": lambda folder: mha(
        folder / "a.mha", TEXT.replace(b"2", b"x"), "BinaryData = False"
    ),
    "mha, raw cut short": lambda folder: mha(folder / "a.mha", VOXELS[:-1]),
    "nrrd, gzip cut short": lambda folder: nrrd(
        folder / "a.nrrd", gzip.compress(VOXELS)[:-9], "encoding: gzip", "endian: little"
    ),
    "nrrd, a wrong checksum": lambda folder: nrrd(
        folder / "a.nrrd", gzip.compress(VOXELS)[:-8] + bytes(4) + gzip.compress(VOXELS)[-4:],
        "encoding: gzip", "endian: little",
    ),
    "nrrd, the second member cut short": lambda folder: nrrd(
        folder / "a.nrrd", gzip.compress(VOXELS[:50]) + gzip.compress(VOXELS[50:])[:-1],
        "encoding: gzip", "endian: little",
    ),
    "nrrd, text that ends": lambda folder: nrrd(folder / "a.nrrd", TEXT[:-5], "encoding: text"),
    "nrrd, text beyond the type": lambda folder: nrrd(
        folder / "a.nrrd", TEXT.replace(b"2", b"70000"), "encoding: text"
    ),
    "nrrd, hex that ends": lambda folder: nrrd(
        folder / "a.nrrd", VOXELS.hex().encode()[:-2], "encoding: hex", "endian: little"
    ),
    "nrrd, hex that is none": lambda folder: nrrd(
        folder / "a.nrrd", VOXELS.hex().encode()[:-2] + b"xy", "encoding: hex", "endian: little"
    ),
    "nrrd, lines that are not there": lambda folder: nrrd(
        folder / "a.nrrd", VOXELS, "encoding: raw", "endian: little", "line skip: 9000"
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN.keys())
def test_what_was_not_decoded_whole_is_refused(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    with pytest.raises(ImageError, match=rf"{path.name}: .*(damaged|truncated|header)"):
        read_volume(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: mha(folder / "a.mha", VOXELS + VOXELS),
        lambda folder: mha(folder / "a.mha", zlib.compress(VOXELS * 3), "CompressedData = True"),
        lambda folder: mha(folder / "a.mha", TEXT * 2, "BinaryData = False"),
        lambda folder: nrrd(folder / "a.nrrd", VOXELS * 2, "encoding: raw", "endian: little"),
        lambda folder: nrrd(folder / "a.nrrd", TEXT * 2, "encoding: text"),
        lambda folder: nrrd(
            folder / "a.nrrd", gzip.compress(VOXELS) * 2, "encoding: gzip", "endian: little"
        ),
    ],
    ids=["mha", "packed mha", "text mha", "nrrd", "text nrrd", "gzip nrrd"],
)
def test_more_volumes_than_the_header_names_are_not_passed_over(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    with pytest.raises(ImageError, match="holds more than its header says"):
        read_volume(make(tmp_path))


@pytest.mark.parametrize("name", ["bzip2", "bz2", "zrl"])
def test_an_encoding_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = nrrd(tmp_path / "a.nrrd", b"BZh9", f"encoding: {name}", "endian: little")
    with pytest.raises(ImageError, match=f"packed by {name}") as refusal:
        read_volume(path)
    assert "copy it again" not in str(refusal.value)


@pytest.mark.parametrize("name", ["b.raw", "LIST", "b%02d.raw 1 4 1"])
def test_voxels_in_other_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "b.raw").write_bytes(VOXELS)
    head = mha(tmp_path / "a.mha", b"").read_bytes()
    (tmp_path / "a.mha").write_bytes(head.replace(b"LOCAL", name.encode()))
    with pytest.raises(ImageError, match=r"a\.mha: its voxels lie in another file"):
        read_volume(tmp_path / "a.mha")
    path = nrrd(tmp_path / "a.nrrd", b"", "encoding: raw", "endian: little", f"data file: {name}")
    with pytest.raises(ImageError, match=r"a\.nrrd: its voxels lie in another file"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.hdr", "a.img"])
def test_half_an_image_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    mha(tmp_path / name, VOXELS)
    with pytest.raises(ImageError, match=f"{name}: is half of an image"):
        read_volume(tmp_path / name)


def test_values_that_are_to_be_scaled_are_refused(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", VOXELS, "ElementToIntensityFunctionSlope = 2")
    with pytest.raises(ImageError, match="multiplied by 2"):
        read_volume(path)
    path = mha(tmp_path / "a.mha", VOXELS, "ElementToIntensityFunctionSlope = 1")
    np.testing.assert_array_equal(read_volume(path).array[0], LABELS)


VECTORS = np.arange(3 * 120, dtype="<i2").reshape(3, 6, 5, 4)
D = "(1,0,0) (0,1,0) (0,0,2)"


@pytest.mark.parametrize(
    ("axis", "kinds", "directions"),
    [
        (0, "vector domain domain domain", f"none {D}"),
        (0, "RGB-color space space space", f"none {D}"),
        (3, "domain domain domain list", f"{D} none"),
        (1, "domain vector domain domain", "(1,0,0) none (0,1,0) (0,0,2)"),
    ],
)
def test_components_on_any_axis_of_nrrd_are_the_channels(
    tmp_path: Path, axis: int, kinds: str, directions: str
) -> None:
    array = np.moveaxis(VECTORS, 0, axis)
    path = nrrd(
        tmp_path / "a.nrrd", array.tobytes(order="F"), "space: left-posterior-superior",
        f"space directions: {directions}", f"kinds: {kinds}", "endian: little", "encoding: raw",
        "space origin: (0,0,0)", sizes=" ".join(map(str, array.shape)),
    )  # fmt: skip
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, VECTORS)
    peer = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(volume.array, peer.transpose(3, 2, 1, 0))
    assert volume.spacing == (1, 1, 2)


def test_components_of_a_metaimage_are_the_channels(tmp_path: Path) -> None:
    data = VECTORS.tobytes(order="F")
    path = mha(tmp_path / "a.mha", data, "ElementNumberOfChannels = 3")
    np.testing.assert_array_equal(read_volume(path).array, VECTORS)
    with pytest.raises(ImageError, match="4D"):
        read_label(path)
    with pytest.raises(ImageError, match="truncated"):
        read_volume(mha(tmp_path / "a.mha", data, "ElementNumberOfChannels = 4"))
    with pytest.raises(ImageError, match="holds more"):
        read_volume(mha(tmp_path / "a.mha", data, "ElementNumberOfChannels = 2"))


@pytest.mark.parametrize(
    "kinds", ["vector list domain domain domain", "complex domain domain domain time"]
)
def test_two_axes_that_are_none_of_space_are_refused(tmp_path: Path, kinds: str) -> None:
    path = nrrd(
        tmp_path / "a.nrrd", VOXELS * 4, f"kinds: {kinds}", "endian: little", "encoding: raw",
        sizes="2 2 6 5 4",
    )  # fmt: skip
    with pytest.raises(ImageError, match="axes of the kinds"):
        read_volume(path)


@pytest.mark.parametrize("said", ["2", "4", "0", "-1", "1e93", "99999"])
def test_a_count_of_axes_that_is_wrong_is_refused(tmp_path: Path, said: str) -> None:
    head = mha(tmp_path / "a.mha", VOXELS).read_bytes()
    (tmp_path / "a.mha").write_bytes(head.replace(b"NDims = 3", b"NDims = " + said.encode()))
    with pytest.raises(ImageError, match=r"a\.mha: its MHA header cannot be used"):
        read_volume(tmp_path / "a.mha")
    head = nrrd(tmp_path / "a.nrrd", VOXELS, "encoding: raw", "endian: little").read_bytes()
    wrong = head.replace(b"dimension: 3", b"dimension: " + said.encode())
    (tmp_path / "a.nrrd").write_bytes(wrong)
    with pytest.raises(ImageError, match=r"a\.nrrd: its NRRD header cannot be used"):
        read_volume(tmp_path / "a.nrrd")


def test_components_of_which_itk_drops_one_are_refused(tmp_path: Path) -> None:
    path = nrrd(
        tmp_path / "a.nrrd", np.zeros(7 * 120, "<f4").tobytes(), "endian: little", "encoding: raw",
        "kinds: 3D-masked-symmetric-matrix domain domain domain", sizes="7 6 5 4",
    )  # fmt: skip
    path.write_bytes(path.read_bytes().replace(b"type: short", b"type: float"))
    with pytest.raises(ImageError, match=r"a\.nrrd: has a header that can"):
        read_volume(path)  # the mask, one of seven


def test_a_field_too_long_for_itk_is_refused(tmp_path: Path) -> None:
    lines = ("encoding: raw", "endian: little")
    path = nrrd(tmp_path / "a.nrrd", VOXELS, *lines, f"spac{' 1' * 5000}")
    with pytest.raises(ImageError, match="more than 1000 letters"):
        read_volume(path)
    path = nrrd(tmp_path / "a.nrrd", VOXELS, *lines, f"key:={' 1' * 5000}", "# " + "1" * 9000)
    np.testing.assert_array_equal(read_volume(path).array[0], LABELS)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("a.nrrd", b"type: short", b"type: block", "type 'block'"),
        ("a.nrrd", b"endian: little\n", b"", "no field 'endian'"),
        ("a.nrrd", b"endian: little", b"endian: middle", "endian 'middle'"),
        ("a.mha", b"MET_SHORT", b"MET_STRING", "MET_STRING"),
        ("a.mha", b"DimSize", b"DimSized", "no field 'DimSize'"),
    ],
)
def test_a_header_of_its_format_is_not_called_damaged(
    tmp_path: Path, name: str, old: bytes, new: bytes, said: str
) -> None:
    path = tmp_path / name
    if name == "a.mha":
        mha(path, VOXELS)
    else:
        nrrd(path, VOXELS, "endian: little", "encoding: raw")
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(ImageError) as refusal:
        read_volume(path)
    text = str(refusal.value)
    assert f"its {name[2:].upper()} header cannot be used" in text
    assert said in text
    assert "Save it anew" in text
