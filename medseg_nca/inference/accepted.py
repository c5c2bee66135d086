"""Check which settings and which images a predictor of any task accepts."""

from __future__ import annotations

from collections.abc import Sequence

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.io.peek import Extent
from medseg_nca.io.volume import Volume
from medseg_nca.transforms.grid import Grid
from medseg_nca.transforms.likeness import Likeness, compare


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
    """Compare a volume with the images of the training.

    Raises:
        ImageError: if the volume is unlike them and the settings refuse such volumes.
    """
    found = compare(Grid.of(volume), plan, match=settings.match_spacing)
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


def flipped_back(
    window: tuple[slice, ...], axes: Sequence[int], shape: Sequence[int]
) -> tuple[slice, ...]:
    """Return where a window ``(*spatial)`` of an image flipped along some axes was before."""
    return tuple(
        slice(n - w.stop, n - w.start) if axis in axes else w
        for axis, (w, n) in enumerate(zip(window, shape, strict=True))
    )
