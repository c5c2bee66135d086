"""How much memory a prediction takes, told from the size of the image before it is begun.

All figures are above what the process has in memory when a prediction begins. They are sums of the
arrays that exist at the same time; ``tests/inference/test_memory.py`` measures that they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import MemoryBudgetError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.io.peek import Extent
from medseg_nca.models import RunOptions
from medseg_nca.transforms.encode import written_type
from medseg_nca.transforms.grid import Grid, planned_grids
from medseg_nca.transforms.islands import BYTES_A_VOXEL
from medseg_nca.transforms.likeness import compare

# What the engine keeps from one roll-out to the next, and libraries that are loaded late.
_ALWAYS = 120e6
# Allocators round up, and small things add up.
_MARGIN = 1.03
_FLOAT = 4
# Of the largest percentile search: a copy of a channel, and a mask.
_SEARCH = 5
# A reader holds the file's content, what was unpacked of it, and the array.
_COPIES_READ = 3


@dataclass(frozen=True)
class Footprint:
    """Bytes of a prediction.

    Attributes:
        source: of the image as it was read.
        reading: at the peak, until it is read.
        preparing: until the model begins, besides the source.
        held: while the model runs, besides the source and what the model needs.
        model: what the model needs at least; None where that is not known.
        ending: from the model's end on, besides the source.
    """

    source: float
    reading: float
    preparing: float
    held: float
    model: float | None
    ending: float

    @property
    def least(self) -> float:
        """All that is needed at least."""
        running = self.held + (self.model or 0.0)
        most = max(self.reading, self.source + max(self.preparing, running, self.ending))
        return _ALWAYS + _MARGIN * most

    def left(self, budget: float) -> float:
        """What a budget leaves to the model."""
        return (budget - _ALWAYS) / _MARGIN - self.source - self.held


def footprint(
    loaded: LoadedModel, settings: PredictionSettings, extent: Extent, name: str = "the image"
) -> Footprint:
    """What a prediction of an image of this extent needs.

    Raises:
        ImageError: if its spacing is out of all proportion to the model's; it names the image by
            ``name``.
    """
    plan, labels = loaded.spec.plan, loaded.spec.labels
    settings = loaded.spec.decided(settings)
    spaced, shape = _prepared(loaded, settings, extent, name)
    voxels, cells = prod(extent.shape), prod(shape)
    channels = 1 if plan.colour == "grey" else extent.channels
    source = float(extent.channels * voxels * extent.item_bytes)
    image = float(channels * cells * _FLOAT)
    padded = [max(n, s) for n, s in zip(shape, plan.crop_size, strict=True)]
    options = RunOptions(precision=settings.precision)
    # What preparing takes from the source before it becomes the image.
    before = channels * cells * _FLOAT if spaced or plan.colour == "grey" else 0.0
    copies = (1.0 if padded != list(shape) else 0.0) + (1.0 if settings.flip_axes else 0.0)
    copied = copies * channels * prod(padded) * _FLOAT
    direct = direct_labels(loaded, settings) and not spaced
    kept, ending = _votes(settings, labels.channels, cells, voxels, written_type(labels).itemsize,
                          direct)  # fmt: skip
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
    """Whether the labels of a voxel are known from one look at it."""
    if len(loaded.members) > 1:
        return False
    return not (settings.probabilities or settings.uncertainty or settings.flip_axes)


def _votes(
    settings: PredictionSettings, channels: int, cells: int, voxels: int, label: int, direct: bool
) -> tuple[float, float]:
    """Bytes of what is collected while the model runs, and of what becomes of it."""
    labels = 2.0 * label * voxels
    if direct:
        return float(label * cells), float(label * cells) + labels
    total = channels * cells * _FLOAT
    spread = 2 * cells * _FLOAT if settings.uncertainty else 0
    kept = total + spread + (total if settings.uncertainty and settings.flip_axes else 0)
    # What comes back to the source grid is pasted, turned and laid in order.
    back = (channels if settings.probabilities else 0) + (1 if settings.uncertainty else 0)
    return float(kept), kept + labels + 2.0 * back * voxels * _FLOAT


def _prepared(
    loaded: LoadedModel, settings: PredictionSettings, extent: Extent, name: str
) -> tuple[bool, tuple[int, ...]]:
    """Whether the spacing changes, and the voxels per axis of the prepared image."""
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
    """Compare what an image needs with the budget.

    Raises:
        MemoryBudgetError: if it is more; says how much is needed, and which option to change.
        ImageError: as :func:`footprint`.
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
