"""De-identification finds names, identifiers and dates however they are written, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import DataElement, Dataset, config, dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medseg_nca.io.dicom.deid.collect import identity_words
from medseg_nca.io.dicom.deid.deidentify import Deidentifier, deidentify_dataset, save_dataset
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.deid.words import IdentityWords
from medseg_nca.io.dicom.quiet import quiet
from tests.io.dicom import build, referring
from tests.io.dicom.leaks import leaks, text_leaks, texts
from tests.io.dicom.persons import (
    BIRTHS,
    BORN,
    CLINICAL,
    DATES,
    DAY,
    IDENTIFIER,
    NO_DATES,
    NO_NUMBERS,
    NUMBERS,
    PEOPLE,
)

KEY = Pseudonyms(b"a key for tests, not a secret")
KEEP = Deidentifier(KEY, keep_labels=True)
SHIFT = Deidentifier(KEY, keep_labels=True, dates="shift")
# Nobody else may be in the file: staff and places of `build` are somebody's name, too.
ALONE = dict.fromkeys(
    ("ReferringPhysicianName", "OperatorsName", "InstitutionName", "StationName", "PatientAddress",
     "OtherPatientIDs", "AccessionNumber", "StudyID")
)  # fmt: skip


def drawn(labels: Sequence[str], **tags: Any) -> Dataset:
    """An RTSTRUCT with one region for each label, in a character set that has all of them."""
    planes = build.classic(build.pixels((1, 8, 6)), **{**ALONE, **tags})
    corners = referring.square(build.AXIAL, 0, 1.0, 4.0)
    made = referring.rtstruct(planes, {str(n): [(0, corners)] for n in range(len(labels))})
    for roi, label in zip(made.StructureSetROISequence, labels, strict=True):
        roi.ROIName = label
    made.StructureSetLabel = "plan"
    for observation in made.RTROIObservationsSequence:
        observation.ROIInterpreter, observation.ROIObservationLabel = "", ""
    return made


def labels_of(made: Dataset, folder: Path, how: Deidentifier = KEEP) -> list[str]:
    """The labels of the de-identified copy, as another program reads them from the file."""
    original = dcmread(build.save(made, folder / "original.dcm"))
    save_dataset(deidentify_dataset(original, how), folder / "new.dcm")
    copy = dcmread(folder / "new.dcm")
    return [str(roi.ROIName) for roi in copy.StructureSetROISequence]


def split(labels: Sequence[str], kept: Sequence[str]) -> tuple[list[str], list[str]]:
    """Labels that were kept, and those that were not."""
    pairs = list(zip(labels, kept, strict=True))
    return [a for a, b in pairs if a == b], [a for a, b in pairs if b == "REMOVED"]


@pytest.mark.parametrize("person", PEOPLE.values(), ids=PEOPLE.keys())
def test_spellings_of_a_name(person: Any, tmp_path: Path) -> None:
    bad = [*person.spellings, person.name.replace("^", " ").split("=")[0]]
    good = [label for label in (*CLINICAL, *person.harmless) if label not in bad]
    made = drawn([*bad, *good], PatientName=person.name)
    left, gone = split([*bad, *good], labels_of(made, tmp_path))
    assert (gone, left) == (bad, good)


@pytest.mark.parametrize("person", PEOPLE.values(), ids=PEOPLE.keys())
def test_a_name_in_its_own_character_set(person: Any, tmp_path: Path) -> None:
    """Whoever wrote the name wrote the label: in the same character set, in the same spelling."""
    bad = [
        part for group in person.name.split("=") for part in group.split("^")[:2] if len(part) > 1
    ]
    made = drawn(bad, SpecificCharacterSet=person.charset, PatientName=person.name)
    assert set(labels_of(made, tmp_path)) == {"REMOVED"}


@pytest.mark.parametrize("how", [KEEP, SHIFT], ids=["remove", "shift"])
@pytest.mark.parametrize("keyword", ["StudyDate", "ContentDate", "AcquisitionDateTime"])
def test_dates_in_labels(how: Deidentifier, keyword: str, tmp_path: Path) -> None:
    value = DAY + "101112" * keyword.endswith("Time")
    made = drawn([*DATES, *CLINICAL, *NO_DATES])
    setattr(made, keyword, value)
    left, gone = split([*DATES, *CLINICAL, *NO_DATES], labels_of(made, tmp_path, how))
    assert (gone, left) == (list(DATES), [*CLINICAL, *NO_DATES])


def test_a_whole_date_in_a_label_is_no_chance(tmp_path: Path) -> None:
    """It need not stand in the header: a plan of another day tells as much."""
    bad = ["CT 2019-11-30", "30.11.2019", "20191130", "Nov 30, 2019"]
    good = ["30.11", "30.11.19", "2019", "99999999", "12345678"]
    left, gone = split([*bad, *good], labels_of(drawn([*bad, *good]), tmp_path))
    assert (gone, left) == (bad, good)


def test_digits_of_identifiers_and_births(tmp_path: Path) -> None:
    bad, good = [*NUMBERS, *BIRTHS], [*CLINICAL, *NO_NUMBERS]
    made = drawn([*bad, *good], PatientID=IDENTIFIER, PatientBirthDate=BORN)
    left, gone = split([*bad, *good], labels_of(made, tmp_path))
    assert (gone, left) == (bad, good)


@pytest.mark.parametrize(
    ("keyword", "value", "label"),
    [
        ("AccessionNumber", "A-2020-4711", "acc 4711"),
        ("OtherPatientIDs", ["KH-55123", "X1"], "55123"),
        ("InstitutionName", "Fakehaus Klinik", "fakehaus  klinik"[:8]),
        ("ReferringPhysicianName", "Ng^Li Wei", "by Ng"),
        ("PerformingPhysicianName", ["Aba^Ann", "Öhm^Cy"], "Oehm"),
        ("PatientTelephoneNumbers", "+49 89/123 45-67", "4989 1234567"),
        ("PatientMotherBirthName", "Zwo", "zwo"),
        ("PatientBirthName", "Ek^Ida", "Ek"),
        ("DeviceSerialNumber", "SN000442211", "442211"),
    ],
)
def test_other_identifiers(keyword: str, value: Any, label: str, tmp_path: Path) -> None:
    made = drawn([label, "Liver"])
    setattr(made, keyword, value)
    kept = labels_of(made, tmp_path)
    if keyword != "InstitutionName":  # an address is found as a whole
        assert kept == ["REMOVED", "Liver"]
    made.StructureSetROISequence[0].ROIName = str(value if isinstance(value, str) else value[0])
    assert labels_of(made, tmp_path)[0] == "REMOVED"


def test_a_name_that_was_cut_with_its_label(tmp_path: Path) -> None:
    bad = ["GTV Zwickelbaue", "y" * 57 + " Zwicke"]
    bad[0] = "PTV1 Zwickelbaue"
    good = ["PTV Zwick", "Livers of people"]
    made = drawn([*bad, *good], PatientName="Zwickelbauer^Hieronymus")
    left, gone = split([*bad, *good], labels_of(made, tmp_path))
    assert (gone, left) == (bad, good)


@pytest.mark.parametrize(
    ("name", "keyword", "value"),
    [
        ("Hu^No", "RescaleType", "HU"),
        ("No^An", "BurnedInAnnotation", "NO"),
        ("Ct^Mr", "Modality", "CT"),
        ("Ir^Iso", "SpecificCharacterSet", "ISO_IR 192"),
        ("Hfs^Feet", "PatientPosition", "HFS"),
        ("Original^Axial", "ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"]),
        ("Mono^Chrome", "PhotometricInterpretation", "MONOCHROME2"),
    ],
)
def test_terms_of_the_standard_name_nobody(
    name: str, keyword: str, value: Any, tmp_path: Path
) -> None:
    image = build.classic(build.pixels((1, 8, 6)), PatientName=name, **{keyword: value})[0]
    original = dcmread(build.save(image, tmp_path / "original.dcm"))
    assert deidentify_dataset(original, KEEP)[keyword].value == value


def test_codes_of_the_standard_stay(tmp_path: Path) -> None:
    """Six digits may be a day; a code of six digits is a code."""
    image = build.classic(
        build.pixels((1, 8, 6)), StudyDate="20180911", PatientName="Li^Ver", PatientID="110918"
    )[0]
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "110918", "DCM", "Thing"
    image.AnatomicRegionSequence = [item]
    original = dcmread(build.save(image, tmp_path / "original.dcm"))
    (copy,) = deidentify_dataset(original, KEEP).AnatomicRegionSequence
    assert (copy.CodeValue, copy.CodingSchemeDesignator, copy.CodeMeaning) == (
        "110918", "DCM", "Thing",
    )  # fmt: skip


KEPT = (
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "ImageType",
    "BodyPartExamined", "ScanOptions", "SequenceName", "FilterType", "RescaleType", "StackID",
    "AcquisitionNumber", "SeriesNumber", "InstanceNumber", "CodeMeaning", "CodingSchemeName",
    "SegmentLabel", "LUTExplanation", "Laterality", "KVP",
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    person=st.sampled_from(list(PEOPLE.values())),
    places=st.lists(st.sampled_from(KEPT), min_size=1, max_size=6, unique=True),
    around=st.sampled_from(["{}", "GTV {}", "{} 2", "x_{}_y", "({})", "by {}, left", "{}\0junk"]),
    dates=st.sampled_from(["remove", "shift"]),
    data=st.data(),
)
def test_whatever_stands_where(
    person: Any, places: list[str], around: str, dates: Any, data: st.DataObject, tmp_path: Path
) -> None:
    image = build.classic(
        build.pixels((1, 8, 6)), **{**ALONE, "PatientName": person.name, "PatientID": IDENTIFIER,
        "PatientBirthDate": BORN, "StudyDate": DAY},
    )[0]  # fmt: skip
    numbers = [form for form in (*DATES, *NUMBERS, *BIRTHS) if form.isascii() and form.isdigit()]
    forms = {}
    nested = Dataset()
    for place in places:
        if place in {"AcquisitionNumber", "SeriesNumber", "InstanceNumber", "KVP"}:
            forms[place] = data.draw(st.sampled_from([n for n in numbers if len(n) == 8]))
            setattr(image, place, forms[place])
            continue
        pool = [*person.spellings, *DATES, *NUMBERS, *BIRTHS]
        if place in {"ImageType", "BodyPartExamined", "ScanOptions", "Laterality"}:
            pool = [form for form in pool if form.isascii()]  # nothing else can be written there
        forms[place] = data.draw(st.sampled_from(pool))
        where = nested if place in {"CodeMeaning", "CodingSchemeName", "SegmentLabel"} else image
        with quiet(), config.disable_value_validation():  # also where such a text breaks the rules
            setattr(where, place, around.format(forms[place]))
    nested.CodeValue, nested.CodingSchemeDesignator = "1", "99X"
    image.AnatomicRegionSequence = [nested]
    with quiet():
        original = dcmread(build.save(image, tmp_path / "original.dcm"))
    how = Deidentifier(KEY, dates=dates, keep_labels=True)
    save_dataset(deidentify_dataset(original, how), tmp_path / "new.dcm")
    assert text_leaks(texts(tmp_path / "new.dcm"), forms.values()) == []


# Those that say what an instance is, without which there is nothing to write.
NEEDED = {
    "SOPClassUID", "SOPInstanceUID", "SpecificCharacterSet", "PatientName", "BurnedInAnnotation",
    "BitsAllocated", "SamplesPerPixel", "Rows", "Columns", "NumberOfFrames", "StudyDate",
    "AnatomicRegionSequence", "SourceImageSequence", "PhotometricInterpretation",
}  # fmt: skip
TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}


@pytest.mark.parametrize("dates", ["remove", "shift"])
@pytest.mark.parametrize("vr", [None, "UT", "CS", "OB", "UN"])
@pytest.mark.parametrize(
    ("secret", "name"),
    [("by Zwickelbauer", "Zwickelbauer^X"), ("Xu", "Xu^Bo"), ("2021-03-14", "N^N")],
    ids=["long", "short", "date"],
)
def test_every_element_of_the_dictionary(
    secret: str, name: str, vr: str | None, dates: Any, tmp_path: Path
) -> None:
    """At the top and in a sequence, in the VR that it has in the standard, and in others."""
    image = build.classic(
        build.pixels((1, 8, 6)), **{**ALONE, "PatientName": name, "StudyDate": DAY}
    )[0]
    image.BurnedInAnnotation = "NO"
    nested = Dataset()
    for tag, (own, *_, keyword) in DicomDictionary.items():
        wanted = vr or str(own)
        if keyword in NEEDED or not keyword or tag >> 16 in {0, 2, 0x7FE0}:
            continue
        if own == "SQ" or wanted not in {*TEXTS, "OB", "UN"} or (vr is None and own == "OB"):
            continue
        if vr and (tag >> 16 == 0x28 or (vr == "UN" and own not in TEXTS)):
            continue
        content = secret + " " * (len(secret) % 2)
        value = content if wanted in TEXTS else content.encode()
        with quiet(), config.disable_value_validation():
            image[tag] = nested[tag] = DataElement(tag, wanted, value)
    assert len(nested) > 500
    image.AnatomicRegionSequence = image.SourceImageSequence = [nested]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    how = Deidentifier(KEY, keep_labels=True, dates=dates)
    save_dataset(deidentify_dataset(image, how), tmp_path / "new.dcm")
    assert text_leaks(texts(tmp_path / "new.dcm"), [secret]) == []
    if secret != "Xu":  # two letters are in any bytes
        assert leaks((tmp_path / "new.dcm").read_bytes(), [secret.removeprefix("by ")]) == []


CHARSETS = [
    ("Müller^Jörg", "latin-1", "ISO_IR 192", ["Müller", "Joerg"]),
    ("Müller^Jörg", "latin-1", "ISO_IR 144", ["Mueller", "Jörg"]),
    ("Müller^Jörg", "cp850", "ISO_IR 6", ["Müller", "Jörg"]),
    ("Wałęsa^Łukasz", "iso8859_2", "ISO_IR 100", ["Wałęsa", "Lukasz"]),
    ("Yıldız^Ağaoğlu", "iso8859_9", "ISO_IR 100", ["Yildiz", "Ağaoğlu"]),
    ("Žukauskas^Ėglė", "iso8859_4", "ISO_IR 6", ["Zukauskas", "Ėglė"]),
    ("Иванов^Пётр", "koi8_r", "ISO_IR 6", ["Иванов", "Pyotr"]),
    ("Иванов^Пётр", "iso8859_5", "ISO_IR 100", ["Ivanov", "Пётр"]),
    ("Иванов^Пётр", "cp1251", "ISO_IR 192", ["Иванов", "Пётр"]),
    ("Иванов^Пётр", "utf-8", "ISO_IR 144", ["Иванов", "Пётр"]),
    ("שרון^דבורה", "iso8859_8", "ISO_IR 6", ["שרון", "דבורה"]),
    ("สมชาย^ใจดี", "cp874", "ISO_IR 6", ["สมชาย"]),
    ("山田^太郎", "iso2022_jp", "ISO_IR 6", ["山田", "太郎"]),
    ("山田^太郎", "euc_jp", "ISO_IR 100", ["山田", "太郎"]),
    ("王^小東", "big5", "ISO_IR 100", ["小東", "GTV小東 left"]),
]


@pytest.mark.parametrize(("name", "coding", "declared", "labels"), CHARSETS)
def test_a_name_in_a_character_set_that_its_file_does_not_name(
    name: str, coding: str, declared: str, labels: list[str], tmp_path: Path
) -> None:
    raw = name.encode(coding)
    raw += b" " * (len(raw) % 2)
    wrong = drawn([], SpecificCharacterSet=declared, PatientName="x" * len(raw))
    path = build.save(wrong, tmp_path / "wrong.dcm")
    path.write_bytes(path.read_bytes().replace(b"x" * len(raw), raw))
    with quiet():
        words = identity_words(dcmread(path))
    made = drawn([*labels, *CLINICAL], PatientName="ANON")
    original = dcmread(build.save(made, tmp_path / "original.dcm"))
    save_dataset(deidentify_dataset(original, KEEP, words), tmp_path / "new.dcm")
    kept = [str(roi.ROIName) for roi in dcmread(tmp_path / "new.dcm").StructureSetROISequence]
    assert split([*labels, *CLINICAL], kept) == (list(CLINICAL), labels)


@pytest.mark.parametrize(("name", "coding", "declared", "labels"), CHARSETS)
def test_a_label_in_a_character_set_that_its_file_does_not_name(
    name: str, coding: str, declared: str, labels: list[str], tmp_path: Path
) -> None:
    """No program may read the name from it, whatever it takes the bytes for."""
    raw = name.partition("^")[2].encode(coding)
    raw += b" " * (len(raw) % 2)
    with quiet():
        known = dcmread(build.save(drawn([], PatientName=name), tmp_path / "known.dcm"))
        words = identity_words(known)
    wrong = drawn(["x" * len(raw), "Liver"], PatientName="ANON", SpecificCharacterSet=declared)
    path = build.save(wrong, tmp_path / "wrong.dcm")
    path.write_bytes(path.read_bytes().replace(b"x" * len(raw), raw))
    with quiet():
        save_dataset(deidentify_dataset(dcmread(path), KEEP, words), tmp_path / "new.dcm")
    kept = [str(roi.ROIName) for roi in dcmread(tmp_path / "new.dcm").StructureSetROISequence]
    assert kept == ["REMOVED", "Liver"]
    assert raw.strip() not in (tmp_path / "new.dcm").read_bytes()


def test_letters_with_blanks_between_them(tmp_path: Path) -> None:
    bad, good = ["N O W A K", "n.o.w.a.k", "GTV N-o-w-a-k"], ["L R", "a b c d", "T E S T"]
    made = drawn([*bad, *good], PatientName="Nowak^Anna")
    assert split([*bad, *good], labels_of(made, tmp_path)) == (good, bad)


def test_identifiers_of_three_characters(tmp_path: Path) -> None:
    bad, good = ["QX7", "GTV qx7", "qx7_left", "(QX7)"], ["QX71", "AQX7", "QX", *CLINICAL]
    made = drawn([*bad, *good], PatientID="QX7")
    assert split([*bad, *good], labels_of(made, tmp_path)) == (good, bad)


def test_weeks_and_calendars(tmp_path: Path) -> None:
    bad = ["KW10/2021", "KW 10 2021", "week 10, 2021", "2021W10", "2021-KW10", "14thMarch",
           "1399/12/24", "1442-07-30", "2564-03-14"]  # fmt: skip
    good = ["KW11/2021", "week 10", "PTV_2500_10_5", "15thMarch"]
    made = drawn([*bad, *good], StudyDate="20210314")
    assert split([*bad, *good], labels_of(made, tmp_path)) == (good, bad)


@pytest.mark.parametrize("word", ["Zwickelbauer", "HOSP-778812", "Жуков"])
def test_words_in_bytes(word: str) -> None:
    """A table of numbers is searched at every place, in any case and several codings."""
    words = IdentityWords(names=frozenset({word.casefold()}))
    for text in (word, word.upper()) if word.isascii() else (word,):
        for coding in ("utf-8", "utf-16-le"):
            assert words.found_in_bytes(text.encode(coding))
            assert words.found_in_bytes(bytes(range(256)) + text.encode(coding) + b"\xff" * 3)
    assert not words.found_in_bytes(bytes(range(256)) + word[:-1].encode())
    assert not words.found_in_bytes(b"")
    assert not IdentityWords().found_in_bytes(word.encode())
