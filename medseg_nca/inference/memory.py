"""Estimate how much memory a prediction takes, from the size of the image, before it begins.

All figures are bytes in addition to what the process has in memory when a prediction begins. They
are sums of the arrays that exist at the same time; ``tests/inference/test_memory.py`` measures that
predictions stay below them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import MemoryBudgetError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.step_factor import scaled_steps
from medseg_nca.io.peek import Extent
from medseg_nca.models import RunOptions
from medseg_nca.transforms.encode import written_type
from medseg_nca.transforms.grid import Grid, planned_grids
from medseg_nca.transforms.islands import BYTES_A_VOXEL
from medseg_nca.transforms.likeness import compare

# Bytes that the engine keeps between roll-outs, and bytes of libraries that are loaded late.
_ALWAYS = 120e6
# Factor on the sum of the arrays: allocators round up, and small arrays add up.
_MARGIN = 1.03
_FLOAT = 4
# Bytes for each cell in the search for percentiles: a float32 copy of a channel, and a mask.
_SEARCH = 5
# A reader holds up to three copies: the file's content, the unpacked content, and the array.
_COPIES_READ = 3


@dataclass(frozen=True)
class Footprint:
    """The memory of a prediction in bytes, phase by phase.

    Attributes:
        source: the image as it was read; it stays in memory throughout.
        reading: the peak while the image is read.
        preparing: the peak before the model runs, besides ``source``.
        held: memory in use while the model runs, besides ``source`` and ``model``.
        model: the least memory that the model itself needs; None if it is not known.
        ending: the peak after the model has run, besides ``source``.
    """

    source: float
    reading: float
    preparing: float
    held: float
    model: float | None
    ending: float

    @property
    def least(self) -> float:
        """The least memory that the whole prediction needs, in bytes."""
        running = self.held + (self.model or 0.0)
        most = max(self.reading, self.source + max(self.preparing, running, self.ending))
        return _ALWAYS + _MARGIN * most

    def left(self, budget: float) -> float:
        """Return how many bytes of a budget remain for the model itself."""
        return (budget - _ALWAYS) / _MARGIN - self.source - self.held


def footprint(
    loaded: LoadedModel, settings: PredictionSettings, extent: Extent, name: str = "the image"
) -> Footprint:
    """Return the memory that the prediction of an image of this extent needs.

    Raises:
        ImageError: if the image's spacing differs too much from the model's; the message calls
            the image ``name``.
    """
    plan, labels = loaded.spec.plan, loaded.spec.labels
    settings = loaded.spec.decided(settings)
    spaced, shape = _prepared(loaded, settings, extent, name)
    voxels, cells = prod(extent.shape), prod(shape)
    channels = 1 if plan.colour == "grey" else extent.channels
    source = float(extent.channels * voxels * extent.item_bytes)
    image = float(channels * cells * _FLOAT)
    padded = [max(n, s) for n, s in zip(shape, plan.crop_size, strict=True)]
    # The float32 copy of the source from which the prepared image is made.
    before = channels * cells * _FLOAT if spaced or plan.colour == "grey" else 0.0
    copies = (1.0 if padded != list(shape) else 0.0) + (1.0 if settings.flip_axes else 0.0)
    copied = copies * channels * prod(padded) * _FLOAT
    direct = direct_labels(loaded, settings) and not spaced
    kept, ending = _votes(settings, labels.channels, cells, voxels, written_type(labels).itemsize,
                          direct)  # fmt: skip
    steps = scaled_steps(loaded.model, settings.step_factor)
    options = RunOptions(precision=settings.precision, steps=steps)
    model = loaded.model.least_bytes(padded, options)
    if settings.kept_labels:
        back = (labels.channels if settings.probabilities else 0) + (settings.uncertainty > 0)
        voxel = written_type(labels).itemsize + BYTES_A_VOXEL + back * _FLOAT
        ending = max(ending, float(voxel * voxels))
    return Footprint(
        source=source,
        reading=_COPIES_READ * source,
        preparing=before + image + _SEARCH * cells + (voxels if plan.crop != "none" else 0),
        held=image + copied + kept,
        model=model,
        ending=ending,
    )


def direct_labels(loaded: LoadedModel, settings: PredictionSettings) -> bool:
    """Return whether a voxel's label is known as soon as the model has run on it once.

    That is so if nothing has to be averaged: one member, no flips, no passes, no probabilities.
    """
    if len(loaded.members) > 1:
        return False
    return not (settings.probabilities or settings.uncertainty or settings.flip_axes)


def _votes(
    settings: PredictionSettings, channels: int, cells: int, voxels: int, label: int, direct: bool
) -> tuple[float, float]:
    """Return the bytes of the votes while the model runs, and of the results made of them."""
    labels = 2.0 * label * voxels
    if direct:
        return float(label * cells), float(label * cells) + labels
    total = channels * cells * _FLOAT
    spread = 2 * cells * _FLOAT if settings.uncertainty else 0
    kept = total + spread + (total if settings.uncertainty and settings.flip_axes else 0)
    # Two copies: a result is put on the source grid, then turned and copied in its axis order.
    back = (channels if settings.probabilities else 0) + (1 if settings.uncertainty else 0)
    return float(kept), kept + labels + 2.0 * back * voxels * _FLOAT


def _prepared(
    loaded: LoadedModel, settings: PredictionSettings, extent: Extent, name: str
) -> tuple[bool, tuple[int, ...]]:
    """Return whether the spacing changes, and the prepared image's voxels per axis."""
    if extent.affine is None:
        return False, extent.shape
    rows = tuple(tuple(float(v) for v in row) for row in extent.affine)
    grid = Grid(extent.shape, rows)
    plan = compare(grid, loaded.spec.plan, match=settings.match_spacing).plan
    oriented, prepared = planned_grids(grid, plan, name)
    return prepared != oriented, prepared.shape


def refuse(
    loaded: LoadedModel, settings: PredictionSettings, extent: Extent, name: str
) -> Footprint:
    """Refuse an image whose prediction needs more memory than the budget.

    Raises:
        MemoryBudgetError: if it needs more; the message says how much it needs, and which option
            to change.
        ImageError: as :func:`footprint` raises it.
    """
    found = footprint(loaded, settings, extent, name)
    budget = settings.memory_budget_gb * 1e9
    if found.least <= budget:
        return found
    size = " x ".join(map(str, extent.shape))
    raise MemoryBudgetError(
        f"{name}: an image of {size} voxels needs at least {_gb(found.least)} of memory; the "
        f"budget is {settings.memory_budget_gb:g} GB.",
        hint=_advice(loaded, settings, extent, found.least),
    )


def _advice(loaded: LoadedModel, settings: PredictionSettings, extent: Extent, least: float) -> str:
    enough = _gb(least).removesuffix(" GB")
    text = f"Set --memory-gb (prediction.memory_budget_gb) to {enough} or more"
    changes: dict[str, object] = {"flips": (), "uncertainty": 0, "probabilities": False}
    named = [f"--{key}" for key, value in changes.items() if getattr(settings, key) != value]
    ways: dict[str, dict[str, object]] = {"--precision bfloat16": {"precision": "bfloat16"}}
    if named:
        ways["no " + ", ".join(named)] = changes
    for words, change in ways.items():
        smaller = settings.model_copy(update=change)
        if footprint(loaded, smaller, extent).least <= settings.memory_budget_gb * 1e9:
            text += f", or use {words}"
    return f"{text}."


def _gb(count: float) -> str:
    return f"{-(-count // 1e7) / 100:g} GB"
