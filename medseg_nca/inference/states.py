"""The states of a model inside one image: where roll-outs begin, and the logits of a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.training import PredictionSettings
from medseg_nca.inference.accepted import compare_with_training
from medseg_nca.inference.predictor import padded
from medseg_nca.inference.step_factor import scaled_steps
from medseg_nca.io.volume import Volume
from medseg_nca.models import RunOptions
from medseg_nca.models.geometry import enlarge
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca.start import RollOutStart
from medseg_nca.nca.window import cut
from medseg_nca.transforms.prepare import Trace, prepare

# A part is not made smaller than this share of each axis, however small the budget is.
_LEAST_SHARE = 0.05


@dataclass(frozen=True)
class StateImage:
    """A prepared image, whose states can be looked at.

    Attributes:
        model: the automaton.
        image: the prepared image, padded to the size of training samples, ``(1, C, *padded)``.
        place: where the prepared image lies in the padded one.
        trace: leads from the prepared image back to the source grid.
        settings: how the model is run.
    """

    model: MultiLevelNca
    image: Tensor
    place: tuple[slice, ...]
    trace: Trace
    settings: PredictionSettings

    @classmethod
    def of(
        cls,
        model: MultiLevelNca,
        volume: Volume,
        plan: PreprocessPlan,
        settings: PredictionSettings,
        device: torch.device,
    ) -> StateImage:
        """Prepare a volume ``(C, *S)`` as the predictor does.

        Raises:
            ImageError: if it does not fit the model.
        """
        likeness = compare_with_training(volume, plan, settings)
        prepared = prepare(volume, likeness.plan)
        image = torch.from_numpy(prepared.image).unsqueeze(0).to(device)
        large, place = padded(image, plan.crop_size)
        return cls(model, large, place, prepared.trace, settings)

    @torch.inference_mode()
    def start(self, level: int, seed: int | None = None) -> RollOutStart:
        """Return what the roll-out of a level begins with, after the levels before it have run.

        Args:
            level: index of the level, coarse to fine.
            seed: seed of fire masks that are drawn; None runs the model as its settings say.
        """
        options = RunOptions(
            seed=self.settings.seed if seed is None else seed,
            fire=self.settings.fire if seed is None else "sample",
            steps=scaled_steps(self.model, self.settings.step_factor),
        )
        return self.model.roll_out_start(self.image, level, options)

    @torch.inference_mode()
    def logits(self, state: Tensor) -> Tensor:
        """Return the logits ``(K, *S)`` of a state of the last level, on the prepared image."""
        last = len(self.model.scales) - 1
        logits = enlarge(self.model.level_logits(last, state), self.model.scales[last])
        return cut(logits, self.place)[0]


def part_for_states(
    states: StateImage, name: str, shape: Sequence[int]
) -> tuple[tuple[slice, ...] | None, str]:
    """Return the middle part of an image whose levels fit into the memory budget as a whole.

    Args:
        states: the whole image.
        name: of the case, for the note.
        shape: voxels of the source image, per axis.

    Returns:
        The part of the source image, and a note that tells of it; None and "" if all of it fits.
    """
    budget = states.settings.memory_budget_gb * 1e9
    share, sizes = 1.0, states.image.shape[2:]

    def needed() -> float:
        return states.model.roll_out_bytes([max(round(n * share), 1) for n in sizes])

    while needed() > budget and share > _LEAST_SHARE:
        share *= 0.9
    if share == 1.0:
        return None, ""
    kept = [max(round(n * share), 1) for n in shape]
    window = tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(shape, kept, strict=True))
    whole, part = (" x ".join(map(str, size)) for size in (shape, kept))
    return window, (
        f"{name}: of {whole} voxels the middle {part} were looked at, whose states fit into "
        f"{states.settings.memory_budget_gb:g} GB (prediction.memory_budget_gb)."
    )


def cut_volume(volume: Volume, window: Sequence[slice]) -> Volume:
    """Return a part of a volume; every voxel keeps its place in millimetres."""
    affine = volume.affine.copy()
    for axis, part in enumerate(window):
        affine[:3, 3] += affine[:3, axis] * part.start
    return Volume(volume.array[(slice(None), *window)], affine, volume.sources, volume.header)
