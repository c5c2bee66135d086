"""What happens to an element: the Basic Application Level Confidentiality Profile, and more.

The profile is PS3.15 table E.1-1, in the edition that the package dicom-anonymizer carries as data.
The table lists what identifies a patient; this module also takes what it does not list: private
elements, elements that the dictionary does not know, and every text and date that is not known to
be a technical value. So a new free-text attribute is removed until someone says that it is safe.
"""

from __future__ import annotations

from enum import Enum
from functools import cache

EDITION = "dicomfields_2026c"


class Action(Enum):
    """What is done with an element, in the letters of PS3.15 table E.1-1a."""

    KEEP = "K"
    REMOVE = "X"
    EMPTY = "Z"
    # Of a sequence: the items stay, every text in them is a dummy.
    DUMMY = "D"
    UID = "U"
    # A sequence whose items stay: each of their elements is treated by its own rule.
    ITEMS = "C"


# Of a conditional action ("X/Z/D") the part that keeps any IOD valid.
_LETTERS = {
    "replace": Action.DUMMY,
    "empty": Action.EMPTY,
    "delete": Action.REMOVE,
    "replace_UID": Action.UID,
    "empty_or_replace": Action.DUMMY,
    "delete_or_empty": Action.EMPTY,
    "delete_or_replace": Action.DUMMY,
    "delete_or_empty_or_replace": Action.DUMMY,
    "delete_or_empty_or_replace_UID": Action.ITEMS,
}
_TEXT = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_TIME = {"AS", "DA", "DT", "TM"}
# Groups that are removed as a whole: overlays and curves hold drawings and writing, others reports.
_GROUPS = {0x0000, 0x0004, 0x0032, 0x0038, 0x4000, 0x4008, 0xFFFC}
_PATIENT = 0x0010

# Elements that no person types: values of the device and of the software, and what is needed for
# pixels, geometry and codes.
_TECHNICAL_KEYWORDS = """
    CodeValue LongCodeValue URNCodeValue CodeMeaning CodingSchemeDesignator CodingSchemeVersion
    CodingSchemeName CodingSchemeRegistry CodingSchemeResponsibleOrganization CodingSchemeURL
    CodingSchemeExternalID MappingResourceName DeidentificationMethod
    Manufacturer ManufacturerModelName ManufacturerModelVersion SoftwareVersions
    SecondaryCaptureDeviceManufacturer SecondaryCaptureDeviceManufacturerModelName
    SecondaryCaptureDeviceSoftwareVersions DetectorManufacturerName DetectorManufacturerModelName
    ReceiveCoilManufacturerName TransmitCoilManufacturerName ApplicationName ApplicationVersion
    ApplicationManufacturer AlgorithmName AlgorithmVersion AlgorithmSource SegmentAlgorithmName
    SequenceName PulseSequenceName ImagedNucleus FilterType ConvolutionKernel ReceiveCoilName
    TransmitCoilName MultiCoilElementName MultiCoilConfiguration PlateType PhosphorType
    AcquisitionMode CollimatorGridName ImageFilter ContrastBolusRoute Radiopharmaceutical
    RadiopharmaceuticalRoute Radionuclide PVCRejection TypeOfFilters TriggerSourceOrType
    CardiacFramingType AttenuationCorrectionMethod ReconstructionMethod DetectorLinesOfResponseUsed
    ScatterCorrectionMethod EnergyWindowName DigitalImageFormatAcquired VideoImageFormatAcquired
    TransducerData ProcessingFunction OutputPower DoseModeName
    PositionReferenceIndicator TargetPositionReferenceIndicator StackID DimensionDescriptionLabel
    RescaleType ModalityLUTType LUTExplanation LUTLabel WindowCenterWidthExplanation
    SegmentLabel OpticalPathIdentifier ReferencedOpticalPathIdentifier SourceIsotopeName
"""
_TECHNICAL = frozenset(_TECHNICAL_KEYWORDS.split())
# Elements of the patient's group that do not identify anyone.
_OF_PATIENT = frozenset({"AnatomicalOrientationType", "QualityControlSubject"})
_BINARY_KEYWORDS = """
    PixelData FloatPixelData DoubleFloatPixelData ICCProfile WaveformData WaveformPaddingValue
    ChannelMinimumValue ChannelMaximumValue
"""
_BINARY = frozenset(_BINARY_KEYWORDS.split())
# Sequences that the table replaces by a dummy. Their items are cleaned element by element instead,
# which the profile allows: then they still say what was measured.
_KEPT_ITEMS = frozenset({"ContentSequence"})


# The modalities of PS3.3 C.7.3.1.1.1; any other value of Modality may have been typed by a person.
_MODALITIES = """
    ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC
    HD IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA
    PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT
    RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
"""
MODALITIES = frozenset(_MODALITIES.split())
# Coding schemes whose codes could be taken for names or dates: they are short or have six digits.
SCHEMES = frozenset(
    {"DCM", "SCT", "SRT", "SNM3", "99SDM", "UCUM", "LN", "RADLEX", "FMA", "NCIt", "UMLS", "ICD10",
     "I10", "I9C", "MDC", "NEU", "RFC3066", "RFC5646", "ISO639_1", "ISO639_2", "ISO3166_1"}
)  # fmt: skip


def action_of(tag: int, vr: str) -> Action:
    """Return what is done with an element.

    Args:
        tag: its group and element number as one.
        vr: its value representation.
    """
    return _action(int(tag), vr)


def is_dated(tag: int, vr: str) -> bool:
    """Whether the option to move dates may keep an element that the profile removes.

    Not the patient's own (birth, death), nor those of visits and requests.
    """
    group = int(tag) >> 16
    return vr in {"DA", "DT", "TM"} and group not in _GROUPS | {_PATIENT} and _is_known(int(tag))


@cache
def _action(tag: int, vr: str) -> Action:
    from pydicom.datadict import keyword_for_tag

    group, element = tag >> 16, tag & 0xFFFF
    overlay = group & 0xFF00 in {0x5000, 0x6000}
    if element == 0 or overlay or group in _GROUPS or not _is_known(tag):
        return Action.REMOVE
    keyword = keyword_for_tag(tag)
    listed = _table().get(tag)
    if _is_sequence(tag) != (vr == "SQ"):
        return Action.REMOVE
    if keyword in _KEPT_ITEMS:
        return Action.ITEMS
    if listed is not None:
        return Action.REMOVE if listed is Action.UID and vr != "UI" else listed
    if group == _PATIENT and keyword not in _OF_PATIENT:
        return Action.REMOVE
    action = _unlisted(keyword, vr)
    return Action.REMOVE if action is Action.KEEP and not _fits(tag, vr) else action


def _is_sequence(tag: int) -> bool:
    from pydicom.datadict import dictionary_VR

    return str(dictionary_VR(tag)) == "SQ"


def _fits(tag: int, vr: str) -> bool:
    """Whether a VR is one of those of the dictionary: bytes in place of a text are not searched."""
    from pydicom.datadict import dictionary_VR

    allowed = set(str(dictionary_VR(tag)).split(" or "))
    return vr in allowed or (vr in _TEXT | {"CS"} and bool(allowed & (_TEXT | {"CS"})))


def _is_known(tag: int) -> bool:
    from pydicom.datadict import dictionary_has_tag

    return not tag >> 16 & 1 and bool(dictionary_has_tag(tag))


def _unlisted(keyword: str, vr: str) -> Action:
    if vr == "SQ":
        return Action.ITEMS
    if vr == "UI":
        return Action.UID
    if vr in _TEXT:
        return Action.KEEP if keyword in _TECHNICAL else Action.DUMMY
    if vr in _TIME:
        return Action.DUMMY
    if vr in {"OB", "UN"}:
        return Action.KEEP if keyword in _BINARY else Action.REMOVE
    return Action.KEEP


@cache
def _table() -> dict[int, Action]:
    """PS3.15 table E.1-1; rows of repeating groups are left to :func:`_action`."""
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    rows = initialize_actions(EDITION).items()
    return {
        row[0] << 16 | row[1]: _LETTERS[function.__name__]
        for row, function in rows
        if len(row) == 2
    }
