"""The further turn that dcm2niix gives to volumes of a 3D MR acquisition."""

from __future__ import annotations

from medseg_nca.io.dicom.records import Series, Stack
from medseg_nca.io.volume import Volume

# dcm2niix writes these into one 4D file, which it does not turn.
_SERIAL = ("time-", "b-", "direction-", "phase-", "volume-")


def is_turned(series: Series, stack: Stack) -> bool:
    """Whether dcm2niix would turn it: MRAcquisitionType 3D, several planes, not a part of 4D."""
    serial = any(part.startswith(_SERIAL) for part in stack.name.split("_"))
    acquired_3d = series.tags.get("MRAcquisitionType", "").upper().startswith("3D")
    return acquired_3d and len(stack.shape) == 3 and stack.shape[2] > 1 and not serial


def as_dcm2niix(volume: Volume, series: Series, stack: Stack) -> Volume:
    """Turn and flip axes to the nearest of right, anterior, superior where dcm2niix does so.

    The world position of every voxel stays; label maps on the same grid are turned alike. Results
    that are written back to DICOM need no turn. The array is a view of the one that is given.

    Args:
        volume: ``(C, x, y, z)`` as read, or a label map on its grid.
        series: where it came from.
        stack: where it came from.
    """
    if not is_turned(series, stack):
        return volume
    import nibabel as nib
    import numpy as np

    turn = nib.orientations.io_orientation(volume.affine)
    last = nib.orientations.apply_orientation(np.moveaxis(volume.array, 0, -1), turn)
    back = nib.orientations.inv_ornt_aff(turn, volume.shape)
    array = np.moveaxis(last, -1, 0)
    return Volume(array, volume.affine @ back + 0.0, volume.sources, volume.header)
