"""The image of a job as a file that a viewer in a browser takes: NIfTI, or PNG in 2D."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.io.formats import image_suffix
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume

_NAME = "result_image"
# Shown as they are; all else is written anew.
_VOLUMES, _PICTURES = (".nii", ".nii.gz"), (".png",)
# Grey values of a picture that become black and white, in percent of all.
_BLACK, _WHITE = 0.5, 99.5


def write_view(case: CaseInput, folder: Path, dims: int) -> Path:
    """Write what is shown beneath a label map, on the same grid.

    Args:
        case: a NIfTI or PNG file is copied as it is. Of an image in several channels the first one
            is shown, but in 2D three channels are red, green and blue.
        folder: of the results.
        dims: of the model, 2 or 3.

    Raises:
        ImageError: if the image cannot be read.
    """
    suffix = "" if case.dicom or len(case.files) > 1 else image_suffix(case.source) or ""
    if suffix in (_PICTURES if dims == 2 else _VOLUMES):
        return Path(shutil.copyfile(case.source, folder / f"{_NAME}{suffix}"))
    volume = case.read()
    path = folder / f"{_NAME}{'.png' if volume.dims == 2 else '.nii.gz'}"
    write_volume(_picture(volume) if volume.dims == 2 else _first(volume), path)
    return path


def _first(volume: Volume) -> Volume:
    return volume.with_array(volume.array[:1])


def _picture(volume: Volume) -> Volume:
    """In 8 bit: grey, or red, green and blue."""
    array = volume.array if volume.channels == 3 else volume.array[:1]
    if array.dtype != np.uint8 and not _is_8_bit(volume):
        low, high = np.percentile(array, (_BLACK, _WHITE))
        array = ((array - low) / max(high - low, 1e-6)).clip(0, 1) * 255
    return volume.with_array(np.rint(array).astype(np.uint8))


def _is_8_bit(volume: Volume) -> bool:
    array = volume.array
    return bool(array.min() >= 0 and 127 < array.max() <= 255 and (array == np.rint(array)).all())
