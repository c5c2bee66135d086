"""De-identification removes who the patient is, and keeps what is technical."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
)

from medseg_nca.errors import ConfigError, OutputError
from medseg_nca.io.dicom.deid.deidentify import (
    Deidentifier,
    burned_in,
    deidentify_dataset,
)
from medseg_nca.io.dicom.deid.pixels import strip_comments
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms, find_key, read_key, write_key
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.quiet import quiet
from tests.io.dicom import build, referring
from tests.io.dicom.leaks import leaks, original_uids, tree_leaks
from tests.io.dicom.treated import HOW, KEY, image, stored, treated

SYNTAXES = (*build.NATIVE, *build.LOSSLESS)
# What of the files with pydicom is no object of a known kind.
STRANGE = {"UN_sequence", "empty_charset_LEI", "nested_priv_SQ", "no_meta_group_length", "priv_SQ"}

TECHNICAL = (
    "Modality", "Manufacturer", "ManufacturerModelName", "PixelSpacing", "KVP", "Rows",
    "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleType",
    "BodyPartExamined", "SOPClassUID", "PatientPosition",
)  # fmt: skip


def objects() -> dict[str, Callable[[], Dataset]]:
    planes = build.classic(build.pixels())
    mask = (build.pixels() > 500)[..., None]
    corners = referring.square(build.AXIAL, 2, 1.0, 4.0)
    return {
        "classic": lambda: image(),
        "enhanced": lambda: build.enhanced(build.pixels((3, 32, 32))),
        "seg": lambda: referring.seg(planes, mask, names=["Zorrofake liver"]),
        "rtstruct": lambda: referring.rtstruct(planes, {"GTV Quixotina": [(2, corners)]}),
    }


@pytest.mark.parametrize("kind", ["classic", "enhanced", "seg", "rtstruct"])
@pytest.mark.parametrize("how", [HOW, Deidentifier(KEY, dates="shift", keep_labels=True)])
def test_no_byte_names_the_patient(kind: str, how: Deidentifier, tmp_path: Path) -> None:
    original = stored(objects()[kind](), tmp_path)
    secrets = {*build.SECRETS, *original_uids([original, original.file_meta])}
    assert leaks((tmp_path / "original.dcm").read_bytes(), secrets)
    (tmp_path / "out").mkdir()
    treated(original, tmp_path / "out", how)
    assert tree_leaks(tmp_path / "out", secrets) == {}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: UID(uid).name)
def test_pixels_stay_in_every_transfer_syntax(syntax: str, tmp_path: Path) -> None:
    original = stored(image(), tmp_path, syntax)
    secrets = {*build.SECRETS, *original_uids([original])}
    (tmp_path / "out").mkdir()
    new = treated(original, tmp_path / "out")
    assert new.file_meta.TransferSyntaxUID == syntax
    if UID(syntax).name.startswith("JPEG Lossless"):  # pydicom has no decoder of its own
        assert new.PixelData == original.PixelData
    else:
        np.testing.assert_array_equal(new.pixel_array, original.pixel_array)
    assert tree_leaks(tmp_path / "out", secrets) == {}


@pytest.mark.parametrize("place", ["nested", "private", "unknown", "text", "binary", "meta"])
def test_a_name_is_found_where_none_belongs(place: str, tmp_path: Path) -> None:
    original = stored(image(), tmp_path)
    name, uid = "Zorrofake", str(build.uid("hidden"))
    if place == "nested":
        inner, outer = Dataset(), Dataset()
        inner.PatientName, inner.CodeMeaning = "Zorrofake^X", uid
        outer.PatientComments, outer.ReferencedSOPInstanceUID = name, uid
        outer.PurposeOfReferenceCodeSequence = [inner]
        original.SourceImageSequence = original.AnatomicRegionSequence = [outer]
        original.OriginalAttributesSequence = [outer]
    elif place == "private":
        block = original.private_block(0x0029, "VENDOR", create=True)
        block.add_new(1, "LO", name)
        block.add_new(2, "OB", uid.encode())
    elif place == "unknown":
        original.add_new(0x00080999, "UN", name.encode())
        original.add_new(0x60004000, "LT", name)
        original.add_new(0x50003000, "OW", name.encode() + b" ")
        original.add_new(0xFFFCFFFC, "OB", uid.encode())
    elif place == "text":
        original.Manufacturer, original.BodyPartExamined = f"by {name}", name.upper()
        original.ImageType = ["ORIGINAL", "PRIMARY", "ZORROFAKE"]
        original.RescaleType = uid
        original.RadiopharmaceuticalRoute = "born 1901-02-03"
    elif place == "binary":
        original.ICCProfile = b"\0" * 8 + name.encode("utf-16-le")
        original.PixelData += uid.encode() + name.encode() + b" "
    else:
        original.preamble = name.encode() * 14 + b"\0" * 2
        original.file_meta.SourceApplicationEntityTitle = name
        original.file_meta.PrivateInformationCreatorUID = uid
        original.file_meta.PrivateInformation = name.encode()
    (tmp_path / "out").mkdir()
    treated(original, tmp_path / "out")
    assert tree_leaks(tmp_path / "out", {*build.SECRETS, uid, "1901-02-03"}) == {}


def test_what_is_technical_stays(tmp_path: Path) -> None:
    original = stored(image(), tmp_path)
    new = treated(original, tmp_path)
    for keyword in TECHNICAL:
        assert new[keyword].value == original[keyword].value, keyword


def test_it_says_what_was_done(tmp_path: Path) -> None:
    new = treated(stored(image(), tmp_path), tmp_path)
    assert new.PatientIdentityRemoved == "YES"
    assert new.LongitudinalTemporalInformationModified == "REMOVED"
    assert [item.CodeValue for item in new.DeidentificationMethodCodeSequence] == ["113100"]
    assert "medseg-nca" in new.DeidentificationMethod
    assert new.PatientID == new.PatientName == KEY.patient(build.PATIENT["PatientID"])
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID


def test_the_original_is_not_changed(tmp_path: Path) -> None:
    original = stored(image(), tmp_path)
    before = deepcopy(original)
    deidentify_dataset(original, HOW)
    assert original == before
    assert original.file_meta == before.file_meta


def test_uids_agree_between_objects(tmp_path: Path) -> None:
    planes = build.classic(build.pixels())
    mask = (build.pixels() > 500)[..., None]
    new = [treated(stored(plane, tmp_path), tmp_path) for plane in planes]
    seg = treated(stored(referring.seg(planes, mask), tmp_path), tmp_path)
    assert len({plane.SOPInstanceUID for plane in new}) == len(planes)
    assert {plane.SeriesInstanceUID for plane in new} == {
        item.SeriesInstanceUID for item in seg.ReferencedSeriesSequence
    }
    frames = seg.PerFrameFunctionalGroupsSequence
    sources = {
        source.ReferencedSOPInstanceUID
        for frame in frames
        for derivation in frame.DerivationImageSequence
        for source in derivation.SourceImageSequence
    }
    assert sources == {plane.SOPInstanceUID for plane in new}
    assert seg.FrameOfReferenceUID == new[0].FrameOfReferenceUID
    assert seg.pixel_array.sum() == mask.sum()


@given(st.text("0123456789.", min_size=1, max_size=64))
def test_a_uid_is_valid_and_depends_on_the_key(original: str) -> None:
    new = KEY.uid(original)
    assert UID(new).is_valid
    assert new == KEY.uid(original) != Pseudonyms(b"another key of the tests").uid(original)


def test_the_same_key_gives_the_same_in_another_process() -> None:
    program = (
        "from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms as P\n"
        f"p = P({KEY.key!r}); print(p.uid('1.2.3'), p.patient('7'), p.days('7'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == [KEY.uid("1.2.3"), KEY.patient("7"), str(KEY.days("7"))]


@pytest.mark.parametrize(
    ("tags", "suspected"),
    [
        ({"BurnedInAnnotation": "YES"}, True),
        ({"BurnedInAnnotation": "NO"}, False),
        ({}, False),
        ({"Modality": "US"}, True),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, False),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "ConversionType": "WSD"}, True),
    ],
)
def test_writing_in_the_pixels(tags: dict[str, Any], suspected: bool, tmp_path: Path) -> None:
    original = stored(image(**tags), tmp_path)
    assert bool(burned_in(original)) is suspected
    if suspected:
        with pytest.raises(DicomError, match="allow such images") as caught:
            deidentify_dataset(original, HOW)
        assert caught.value.problem.kind == "burned-in-annotation"
        assert not leaks(str(caught.value).encode(), build.SECRETS)
    treated(original, tmp_path, Deidentifier(KEY, allow_burned_in=True))


@pytest.mark.parametrize(
    "sop_class",
    ["1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.66", "1.2.3.4", ""],
)
def test_what_cannot_be_cleaned_is_refused(sop_class: str, tmp_path: Path) -> None:
    original = stored(image(), tmp_path)
    original.SOPClassUID = sop_class
    with pytest.raises(DicomError, match=r"original\.dcm: .*kind|SOP class"):
        deidentify_dataset(original, HOW)


def test_an_overlay_in_unused_bits_is_cleared(tmp_path: Path) -> None:
    values = np.array([[[0x8001, 0x0FFF], [0x1000, 0x0002]]], np.uint16)
    original = build.classic(values)[0]
    original.BitsStored, original.HighBit = 12, 11
    original.add_new(0x60000100, "US", 16)
    original.add_new(0x60000102, "US", 15)
    new = treated(stored(original, tmp_path), tmp_path)
    assert np.frombuffer(new.PixelData, "<u2").tolist() == [1, 0xFFF, 0, 2]
    assert (0x6000, 0x0102) not in new


def test_comments_in_compressed_frames_are_removed(tmp_path: Path) -> None:
    from PIL import Image

    stream = io.BytesIO()
    picture = Image.fromarray(build.pixels((1, 32, 32), dtype="uint8")[0])
    picture.save(stream, "JPEG", comment=b"Zorrofake", exif=b"Exif\0\0Zorrofake")
    clean = strip_comments(stream.getvalue())
    assert b"Zorrofake" in stream.getvalue()
    assert b"Zorrofake" not in clean
    assert Image.open(io.BytesIO(clean)).tobytes() == Image.open(stream).tobytes()

    original = stored(image(), tmp_path, JPEG2000Lossless)
    pixels = original.pixel_array
    frame = next(generate_frames(original.PixelData, number_of_frames=1))
    place = frame.index(b"\xff\x52")  # COD: a comment may stand before it
    text = b"\xff\x64" + (2 + 2 + 10).to_bytes(2) + b"\0\1" + b"Zorrofake "
    original.PixelData = encapsulate([frame[:place] + text + frame[place:]])
    new = treated(original, tmp_path)
    assert b"Zorrofake" not in (tmp_path / "new.dcm").read_bytes()
    np.testing.assert_array_equal(new.pixel_array, pixels)


@pytest.mark.parametrize(
    "name",
    sorted(p.stem for p in Path(str(get_testdata_file("CT_small.dcm"))).parent.glob("*.dcm")),
)
def test_files_packaged_with_pydicom(name: str, tmp_path: Path) -> None:
    path = Path(str(get_testdata_file("CT_small.dcm"))).parent / f"{name}.dcm"
    try:
        original = dcmread(path)
    except Exception:
        pytest.skip("pydicom itself refuses this file")
    how = Deidentifier(KEY, allow_burned_in=True)
    with quiet():
        list(original.iterall())  # values are read once, and some break the rules of their VR
    if name in STRANGE or "TransferSyntaxUID" not in original.file_meta:
        with pytest.raises(DicomError):
            deidentify_dataset(original, how)
        return
    secrets = original_uids([original]) | {
        part
        for element in original.iterall()
        if element.VR == "PN" or element.keyword in {"PatientID", "AccessionNumber", "StudyID"}
        for part in str(element.value).replace("=", "^").split("^")
        if len(part) > 3
    }
    new = treated(original, tmp_path, how)
    assert tree_leaks(tmp_path, secrets) == {}
    for keyword in ("PixelData", "ContourSequence", "Rows", "BeamSequence", "WaveformSequence"):
        assert (keyword in new) == (keyword in original)


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    key = Pseudonyms.random()
    write_key(path, key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path) == find_key(path) == key
    with pytest.raises(OutputError, match="cannot be written"):
        write_key(path, key)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="other users can read"):
        read_key(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(tmp_path / "absent")
    with pytest.raises(ConfigError, match="at least 16"):
        Pseudonyms(b"short")
    assert find_key(None) is None
    monkeypatch.setenv("MEDSEG_NCA_DEID_KEY", "from the environment")
    assert find_key(None) == Pseudonyms(b"from the environment")
    assert key.key.decode() not in repr(Deidentifier(key))
    assert pickle.loads(pickle.dumps(Deidentifier(key))) == Deidentifier(key)
    assert os.environ["MEDSEG_NCA_DEID_KEY"]
