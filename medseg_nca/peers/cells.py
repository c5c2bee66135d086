"""Cells of published automata, brought into the order of axes and channels of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg_nca.config.bounds import plain
from medseg_nca.config.model import PerceptionSettings, UpdateSettings
from medseg_nca.errors import CheckpointError, ModelError
from medseg_nca.peers.answers import LETTERS

EPS = 1e-5


@dataclass(frozen=True)
class PeerCell:
    """One cell, with the names and the order of this package.

    Attributes:
        dims: number of spatial axes.
        channels: number of channels of the state.
        perception: settings of the perception.
        update: settings of the update rule.
        tensors: the weights, by the names of :class:`medseg_nca.nca.Cell`.
        opposite: whether the published fire rate is the probability that a cell does not update.
    """

    dims: int
    channels: int
    perception: PerceptionSettings
    update: UpdateSettings
    tensors: Mapping[str, Tensor]
    opposite: bool


class Level:
    """The tensors of one published cell, taken one by one.

    Args:
        where: the file, and the prefix of the names, for messages.
        tensors: by name.
    """

    def __init__(self, where: str, tensors: Mapping[str, Tensor]) -> None:
        self.where = where
        self.tensors = tensors

    def check_names(self, wanted: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Check that there are exactly these tensors.

        Raises:
            CheckpointError: naming those that are missing and those that are too many.
        """
        missing = [name for name in wanted if name not in self.tensors]
        extra = [name for name in self.tensors if name not in {*wanted, *optional}]
        if missing or extra:
            parts = [f"lacks {', '.join(missing)}"] if missing else []
            parts += [f"also holds {plain(', '.join(extra))}"] if extra else []
            raise CheckpointError(f"{self.where}: {' and '.join(parts)}.")

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self.tensors[name].shape)

    def take(self, name: str, *shape: int | None) -> Tensor:
        """Return a tensor; None in the shape stands for any size.

        Raises:
            CheckpointError: if it has another shape.
        """
        tensor = self.tensors[name]
        fits = tensor.ndim == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            words = ", ".join("any" if n is None else str(n) for n in shape)
            raise CheckpointError(
                f"{self.where}: {name} has the shape {list(tensor.shape)}, and ({words}) is needed."
            )
        return tensor

    def square(self, name: str, *first: int | None) -> Tensor:
        """Return filters ``(out, in, k, k[, k])`` of one odd size.

        Raises:
            CheckpointError: if they are of another shape.
        """
        tensor = self.tensors[name]
        sizes = set(tensor.shape[2:])
        if tensor.ndim not in (4, 5) or len(sizes) != 1 or min(sizes) % 2 == 0:
            raise CheckpointError(
                f"{self.where}: {name} has the shape {list(tensor.shape)}; filters of one odd size "
                "in 2D or 3D are needed."
            )
        return self.take(name, *first, *tensor.shape[2:])


def turned_filters(weight: Tensor, order: Sequence[int], axes: str) -> Tensor:
    """Bring the axes of filters into the order x, y[, z].

    Args:
        weight: ``(out, in, *kernel)``.
        order: which axis of the published state each axis of the kernel lies along.
        axes: which of our axes each axis of the published state is.
    """
    letters = [axes[state] for state in order]
    return weight.permute(
        0, 1, *(2 + letters.index(c) for c in LETTERS[: len(letters)])
    ).contiguous()


def crossed(dims: int) -> tuple[int, ...]:
    """The order of a kernel's axes where the published step swaps channels and the first axis.

    A channels-last state ``(B, a, b[, c], C)`` becomes ``(B, C, b[, c], a)``, so that the last axis
    of a kernel lies along the first of the state.
    """
    return (*range(1, dims), 0)


def folded(
    weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Put a batch norm with fixed statistics into the linear layer before it, which is the same."""
    factor = scale.double() / torch.sqrt(variance.double() + EPS)
    whole = (bias.double() - mean.double()) * factor + shift.double()
    return (weight.double() * factor.unsqueeze(1)).float(), whole.float()


def med_cell(level: Level, axes: str, *, crossing: bool = True) -> PeerCell:
    """Read a BackboneNCA: two full convolutions p0 and p1, linear layers fc0 and fc1.

    Args:
        level: its tensors.
        axes: see :func:`turned_filters`.
        crossing: whether the array that ``axes`` speaks of is the state itself; else it is the
            input of a module that swaps the axes once more.
    """
    level.check_names(
        ("fc0.weight", "fc0.bias", "fc1.weight", "p0.weight", "p0.bias", "p1.weight", "p1.bias")
    )
    first = level.square("p0.weight", None, None)
    channels, kernel, dims = first.shape[0], first.shape[-1], first.ndim - 2
    first = level.square("p0.weight", channels, channels)
    second = level.take("p1.weight", *first.shape)
    hidden = level.take("fc0.weight", None, 3 * channels)
    order = crossed(dims) if crossing else tuple(range(dims))
    return PeerCell(
        dims, channels,
        PerceptionSettings(kind="conv", kernel=kernel, filters=2, padding="reflect"),
        UpdateSettings(hidden=len(hidden), update_image=True),
        {
            "perception.weight": turned_filters(torch.cat((first, second)), order, axes),
            "perception.bias": torch.cat(
                (level.take("p0.bias", channels), level.take("p1.bias", channels))
            ),
            "update.hidden.weight": hidden,
            "update.hidden.bias": level.take("fc0.bias", len(hidden)),
            "update.output.weight": level.take("fc1.weight", channels, len(hidden)),
        },
        opposite=True,
    )  # fmt: skip


def depthwise_cell(level: Level, axes: str, images: int, norm: str) -> PeerCell:
    """Read a BasicNCA2D or BasicNCA3D (p0), or its fast form (conv): one depthwise convolution.

    The fast form has convolutions of size 1 for linear layers, no outputs for the image channels,
    swaps no axes, and its fire rate is the probability that a cell does update.

    Args:
        level: its tensors.
        axes: see :func:`turned_filters`.
        images: number of image channels.
        norm: "batch", "running" or "none".

    Raises:
        CheckpointError: if the tensors do not fit each other.
        ModelError: if the norm does not fit the tensors.
    """
    fast = "conv.weight" in level.tensors
    name = "conv" if fast else "p0"
    norms, running = ("bn.weight", "bn.bias"), ("bn.running_mean", "bn.running_var")
    level.check_names(
        ("fc0.weight", "fc0.bias", "fc1.weight", f"{name}.weight", f"{name}.bias"),
        (*norms, *running),
    )
    _check_norm(level, norm, norms, running)
    weight = level.square(f"{name}.weight", None, 1)
    channels, kernel, dims = weight.shape[0], weight.shape[-1], weight.ndim - 2
    ones = (1,) * dims if fast else ()
    w0 = level.take("fc0.weight", None, 2 * channels, *ones).flatten(1)
    hidden = len(w0)
    b0 = level.take("fc0.bias", hidden)
    outputs = channels - images if fast else channels
    tensors = {
        "perception.weight": turned_filters(
            weight, tuple(range(dims)) if fast else crossed(dims), axes
        ),
        "perception.bias": level.take(f"{name}.bias", channels),
        "update.output.weight": level.take("fc1.weight", outputs, hidden, *ones).flatten(1),
    }
    if norm != "none":
        scale, shift = (level.take(n, hidden) for n in norms)
        if norm == "running":
            mean, variance = (level.take(n, hidden) for n in running)
            w0, b0 = folded(w0, b0, mean, variance, scale, shift)
        else:
            tensors |= {"update.scale": scale, "update.shift": shift}
    return PeerCell(
        dims, channels,
        PerceptionSettings(kind="depthwise", kernel=kernel, padding="reflect"),
        UpdateSettings(
            hidden=hidden, norm="batch_all" if norm == "batch" else "none", update_image=not fast
        ),
        {**tensors, "update.hidden.weight": w0, "update.hidden.bias": b0},
        opposite=not fast,
    )  # fmt: skip


def _check_norm(level: Level, norm: str, norms: Sequence[str], running: Sequence[str]) -> None:
    has = all(name in level.tensors for name in norms)
    if norm not in {"batch", "running", "none"}:
        raise ModelError(
            f"--norm is {norm}, and a norm of that kind cannot be computed here exactly.",
            hint="Checkpoints with batch, running or none can be imported.",
        )
    if norm == "none" and any(name in level.tensors for name in norms):
        raise ModelError(f"--norm is none, but {level.where} holds {norms[0]}.")
    if norm != "none" and not has:
        raise ModelError(
            f"--norm is {norm}, but {level.where} holds no {' and '.join(norms)}.",
            hint="Use --norm none if there was none; instance cannot be computed here.",
        )
    if norm == "running" and not all(name in level.tensors for name in running):
        raise ModelError(
            f"--norm is running, but {level.where} holds no {' and '.join(running)}.",
            hint="Use --norm batch: without running statistics the norm takes those of the image.",
        )
