"""What a file is by its SOP class: an image that needs a place in the patient, a picture, ..."""

from __future__ import annotations

from typing import Literal

Kind = Literal["image", "seg", "rtstruct", "other"]

# The standard's own kinds of stored objects (PS3.4 B.5).
STORAGE = "1.2.840.10008.5.1.4.1.1."

SEGMENTATION = STORAGE + "66.4"
SURFACE_SEGMENTATION = STORAGE + "66.5"
LABEL_MAP_SEGMENTATION = STORAGE + "66.7"
RT_STRUCTURE_SET = STORAGE + "481.3"
# These have Rows and Columns and are no images of a patient's slices or views, or lie on a grid
# of their own: parametric map, surface segmentation, slide tiles, RT dose.
_NO_IMAGE = {STORAGE + "30", SURFACE_SEGMENTATION, STORAGE + "77.1.6", STORAGE + "481.2"}

CT = {STORAGE + "2", STORAGE + "2.1", STORAGE + "2.2"}  # classic, enhanced, legacy converted
# The values of these are measured, whatever PhotometricInterpretation says of how to show them.
MEASURED = CT | {
    STORAGE + number
    for number in (
        "4", "4.1", "4.3", "4.4",  # MR: classic, enhanced, enhanced colour, legacy converted
        "128", "130", "128.1",  # PET: classic, enhanced, legacy converted
        "20",  # nuclear medicine
    )
}  # fmt: skip

# Cross-sections: without a position in the patient they are not pictures but damaged.
CROSS_SECTIONS = MEASURED | {
    STORAGE + number
    for number in (
        "13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5",  # tomography by X-ray
        "6.2",  # enhanced ultrasound volume
    )
}  # fmt: skip


def kind_of(sop_class_uid: str, *, has_pixels: bool) -> Kind:
    """Say what a file is; an unknown class with rows and columns counts as an image.

    Args:
        sop_class_uid: SOPClassUID.
        has_pixels: whether the header has Rows and Columns.
    """
    if sop_class_uid in (SEGMENTATION, LABEL_MAP_SEGMENTATION):
        return "seg"
    if sop_class_uid == RT_STRUCTURE_SET:
        return "rtstruct"
    return "image" if has_pixels and sop_class_uid not in _NO_IMAGE else "other"
