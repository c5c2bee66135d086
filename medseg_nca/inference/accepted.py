"""Check which settings and which images a predictor of any task accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.io.peek import Extent
from medseg_nca.io.volume import Volume
from medseg_nca.transforms.grid import Grid
from medseg_nca.transforms.intensity_likeness import compare_intensities
from medseg_nca.transforms.likeness import Likeness, compare

# What plans, and DICOM (PS3.3 C.7.3.1.1.1), call the modality of an image, and what a message calls
# it. CR and DX are radiographs, read in one of two ways.
_MODALITIES = {
    "MR": "MRI", "MRI": "MRI", "CT": "CT", "PT": "PET", "PET": "PET", "US": "ultrasound",
    "ULTRASOUND": "ultrasound", "CR": "X-ray", "DX": "X-ray", "X-RAY": "X-ray", "NM": "NM",
    "MG": "MG", "XA": "XA", "RF": "RF", "OP": "OP", "OPT": "OPT", "SM": "SM", "ES": "ES",
}  # fmt: skip


def check_flip_axes(settings: PredictionSettings, dims: int) -> None:
    """Refuse flips along an axis that images do not have.

    Raises:
        ConfigError: if there is such an axis.
    """
    wrong = [axis for axis in settings.flip_axes if not 0 <= axis < dims]
    if wrong:
        raise ConfigError(f"prediction.flips: {wrong[0]} is no axis; they are 0 to {dims - 1}.")


def tells_memory(extent: Extent, plan: PreprocessPlan) -> bool:
    """Return whether the header of an image says enough to tell the memory of its prediction."""
    return len(extent.shape) == plan.dims and (plan.spacing is None or extent.affine is not None)


def compare_with_training(
    volume: Volume, plan: PreprocessPlan, settings: PredictionSettings
) -> Likeness:
    """Compare a volume with the images of the training: grid, modality and intensities.

    Raises:
        ImageError: if the volume is unlike them and the settings refuse such volumes.
    """
    found = compare(Grid.of(volume), plan, match=settings.match_spacing)
    more = (*compare_modality(volume, plan), *compare_intensities(volume.array, plan))
    found = replace(found, unlike=(*found.unlike, *more))
    if plan.training is None and settings.unlike == "refuse":
        raise ImageError(
            f"{volume.name}: the model does not say what the images that it learned from were "
            "like, so this one cannot be compared with them.",
            hint="Use a model that says it (plan.training in model.json), or let it pass with "
            "a warning: --unlike warn (prediction.unlike).",
        )
    if found.unlike and settings.unlike == "refuse":
        raise ImageError(
            f"{volume.name}: is unlike the images of the training: {'; '.join(found.unlike)}.",
            hint="Use a model for such images, or let it pass with a warning: --unlike warn "
            "(prediction.unlike).",
        )
    return found


def compare_modality(volume: Volume, plan: PreprocessPlan) -> tuple[str, ...]:
    """Tell that the DICOM series that a volume came from is of another modality than the training.

    Files that say no modality, and plans whose modality is none of DICOM's, are compared with
    nothing; nor is OT, which other programs give to images that they made of any kind.
    """
    source = volume.header.get("dicom")
    found = None if source is None else _MODALITIES.get(source.modality.strip().upper())
    known = _MODALITIES.get(plan.modality.strip().upper())
    if found is None or known is None or found == known:
        return ()
    return (f"its modality is {found}, that of the training {known}",)


def flipped_back(
    window: tuple[slice, ...], axes: Sequence[int], shape: Sequence[int]
) -> tuple[slice, ...]:
    """Return where a window ``(*spatial)`` of an image flipped along some axes was before."""
    return tuple(
        slice(n - w.stop, n - w.start) if axis in axes else w
        for axis, (w, n) in enumerate(zip(window, shape, strict=True))
    )
