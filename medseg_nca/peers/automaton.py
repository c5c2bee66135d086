"""Put the cells of a checkpoint together to a model of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from medseg_nca.config.bounds import MAX_LEVELS
from medseg_nca.config.model import CellSettings, LevelSettings, NcaModelSettings
from medseg_nca.errors import CheckpointError, ConfigError, ModelError
from medseg_nca.peers.answers import PeerAnswers, check_axes_answer
from medseg_nca.peers.cells import PeerCell
from medseg_nca.peers.checkpoint import PeerFile
from medseg_nca.peers.families.base import Converted

_NUMBER = re.compile(r"(\d+)(?:\.\w+)?$")
SHRINKING = {
    "mean": "the mean of a cell's voxels",
    "max": "the largest of a cell's voxels",
    "middle": "linear interpolation at a cell's centre",
    "first": "the first of a cell's voxels",
}


def in_order(files: Sequence[PeerFile]) -> Sequence[PeerFile]:
    """Check, where the names end in numbers, that the files of the levels run from coarse to fine.

    Raises:
        CheckpointError: if a level is missing or out of order.
    """
    found = [_NUMBER.search(file.name) for file in files]
    numbers = [int(match[1]) for match in found if match is not None]
    if len(files) < 2 or len(numbers) != len(files):
        return files
    names = ", ".join(file.name for file in files)
    if numbers != sorted(numbers):
        raise CheckpointError(
            f"The levels run from coarse to fine, and these do not: {names}.",
            hint="The published code calls the coarsest model0.pth.",
        )
    # Numbers beyond the most levels that a model has are those of epochs or dates.
    first, last = min(numbers[0], 1), numbers[-1]
    missing = sorted({*range(first, last)} - {*numbers}) if last < MAX_LEVELS else []
    if missing:
        lacking = ", ".join(str(number) for number in missing)
        raise CheckpointError(f"The files are {names}: that of level {lacking} is missing.")
    return files


def check_kernels(cells: Sequence[PeerCell]) -> None:
    """Refuse levels whose kernels grow from coarse to fine: they are most likely swapped.

    Raises:
        CheckpointError: if they do.
    """
    kernels = [cell.perception.kernel for cell in cells]
    if kernels != sorted(kernels, reverse=True):
        raise CheckpointError(
            f"The kernels are {', '.join(map(str, kernels))} from the first file to the last. The "
            "coarse level comes first, and the published one has the larger kernel.",
            hint="Give the files coarse to fine, such as model0.pth model1.pth.",
        )


def check_alike(cells: Sequence[PeerCell], where: Sequence[str]) -> None:
    """Check that all levels have the same state and rule.

    Raises:
        CheckpointError: naming what differs.
    """
    first = cells[0]
    for cell, name in zip(cells[1:], where[1:], strict=True):
        for what, one, other in (
            ("axes", first.dims, cell.dims),
            ("channels", first.channels, cell.channels),
            ("hidden units", first.update.hidden, cell.update.hidden),
            ("kind of cell", first.perception.kind, cell.perception.kind),
            ("meaning of the fire rate", first.opposite, cell.opposite),
        ):
            if one != other:
                raise CheckpointError(
                    f"{where[0]} and {name} differ in {what}: {one} and {other}. The levels of a "
                    "model have these in common."
                )


def fire_probability(rate: float, opposite: bool) -> float:
    """Return the probability that a cell does update.

    Raises:
        ConfigError: if no cell ever would, or the rate is no probability.
    """
    share = 1 - rate if opposite else rate
    if not 0 < share <= 1:
        sense = "that a cell does not update" if opposite else "that a cell updates"
        raise ConfigError(f"--fire-rate is {rate}; there it is the probability {sense}.")
    return share


def levels_of(count: int, answers: PeerAnswers, dims: int) -> tuple[LevelSettings, ...]:
    """Return the levels, coarse to fine.

    Raises:
        ConfigError: if steps or scales are not as many as the levels.
    """
    steps, scales = answers.get("steps"), answers.get("scales")
    if len(steps) == 1:
        steps = steps * count
    for option, values in (("--steps", steps), ("--scales", scales)):
        if len(values) != count:
            raise ConfigError(
                f"{option} has {len(values)} values, and there are {count} levels.",
                hint="Give the files of all levels, and one value for each, coarse to fine.",
            )
    wrong = [scale for scale in scales if len(scale) not in (1, dims)]
    if wrong:
        raise ConfigError(f"--scales: {wrong[0]} must be one number, or {dims}.")
    return tuple(
        LevelSettings(scale=scale[0] if len(set(scale)) == 1 else scale, steps=number)
        for scale, number in zip(scales, steps, strict=True)
    )


def _image_and_logits(answers: PeerAnswers, cell: PeerCell) -> tuple[int, int]:
    """Return how many channels the image and the logits have, which must fit the cell."""
    if answers.dims not in (None, cell.dims):
        raise ConfigError(f"--dims is {answers.dims}, but the filters have {cell.dims} axes.")
    images, logits = len(answers.get("channels")), len(answers.get("labels"))
    if images + logits > cell.channels:
        raise ConfigError(
            f"--channels names {images} and --labels {logits}; the state has only "
            f"{cell.channels} channels."
        )
    return images, logits


def assemble(
    name: str,
    cells: Sequence[PeerCell],
    where: Sequence[str],
    answers: PeerAnswers,
    *,
    shrink: str,
    levels: int | None = None,
    assumed: Sequence[str] = (),
) -> Converted:
    """Make a model of cells, coarse to fine.

    Args:
        name: of the model.
        cells: one for each level, or a single one that all levels share.
        where: what messages call the cells.
        answers: what the files do not say.
        shrink: what a level sees of the image's voxels (``model.shrink``).
        levels: how many levels share a single cell; None where each level has its own.
        assumed: see :attr:`Converted.assumed`.

    Raises:
        CheckpointError: if the cells do not fit each other.
        ConfigError: if the answers do not fit the cells.
    """
    check_alike(cells, where)
    first = cells[0]
    images, logits = _image_and_logits(answers, first)
    chosen = levels_of(levels or len(cells), answers, first.dims)
    kernels = {cell.perception.kernel for cell in cells}
    if len(kernels) > 1:
        chosen = tuple(
            level.changed(kernel=cell.perception.kernel)
            for level, cell in zip(chosen, cells, strict=True)
        )
    rate = answers.get("fire_rate")
    share = fire_probability(rate, first.opposite)
    model = NcaModelSettings(
        name=name,
        dims=2 if first.dims == 2 else 3,
        in_channels=images,
        out_channels=logits,
        cell=CellSettings(
            channels=first.channels, perception=first.perception, update=first.update,
            fire_rate=share,
        ),
        levels=chosen,
        share_weights=levels is not None,
        shrink=shrink,
    )  # fmt: skip
    weights: dict[str, Tensor] = {
        f"cells.{index}.{key}": tensor
        for index, cell in enumerate(cells)
        for key, tensor in cell.tensors.items()
    }
    return Converted(model, weights, tuple(_understood(model, answers, first)), tuple(assumed))


def _understood(
    model: NcaModelSettings, answers: PeerAnswers, cell: PeerCell
) -> Sequence[tuple[str, str]]:
    levels = model.resolved_levels
    kernels = sorted({level.kernel or cell.perception.kernel for level in levels}, reverse=True)
    opposite = "the probability not to update" if cell.opposite else "the probability to update"
    kinds = {
        "conv": "full convolutions",
        "depthwise": "depthwise filters",
        "sobel": "Sobel filters",
    }
    seen = cell.perception
    norms = {"none": "none", "batch_all": "statistics of all cells of the image itself"}
    norm = norms[cell.update.norm]
    if answers.norm == "running":
        norm = "running statistics, put into the first layer"
    return [
        ("axes", f"{cell.dims} ({answers.get('axes')})"),
        ("state", f"{cell.channels} channels: {model.in_channels} image, then "
         f"{model.out_channels} logits"),
        ("perception", f"{kinds[seen.kind]} of size {', '.join(map(str, kernels))}, "
         f"padding {seen.padding}"),
        ("update rule", f"{cell.update.hidden} hidden units, {cell.update.activation}, "
         f"norm {norm}"),
        ("levels, coarse to fine", "; ".join(
            f"scale {level.scale}, {level.steps} steps" for level in levels
        ) + (" (shared weights)" if model.share_weights else "")),
        ("image on coarse levels", SHRINKING[model.shrink]),
        ("fire rate", f"{answers.get('fire_rate'):g} is {opposite}: cells update with "
         f"probability {model.cell.fire_rate:g}"),
    ]  # fmt: skip


def check_axes(answers: PeerAnswers, dims: int) -> str:
    """Return the answer ``axes`` after :func:`~medseg_nca.peers.answers.check_axes_answer`."""
    axes: str = answers.get("axes")
    check_axes_answer(axes, dims)
    return axes


def entry(tree: Mapping[str, object], key: str, kind: type | tuple[type, ...]) -> object | None:
    """Return a value of a published configuration; None if it is not there.

    Raises:
        ModelError: if it is of another kind.
    """
    value = tree.get(key)
    if value is None:
        return None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ModelError(f"--settings: {key} is {str(value)[:80]!r}, which cannot be used.")
    return value


def named(word: str, count: object | None) -> tuple[str, ...] | None:
    """Return names for channels of which only the number is known.

    Raises:
        ModelError: if the number is out of range.
    """
    if count is None:
        return None
    if not isinstance(count, int) or not 0 < count <= 1024:
        raise ModelError(f"--settings: {count!r} is no number of channels.")
    return (word,) if count == 1 else tuple(f"{word}_{n + 1}" for n in range(count))
