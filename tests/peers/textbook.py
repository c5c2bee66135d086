"""The published automata as their papers write them down, in plain torch.

States are channels-last, names of parameters are those of the published state dicts. A step is
told which cells fire, so that both sides can be given the same mask. Written from the equations;
slow and plain on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Which cells update in a step: bool ``(B, *spatial)``.
Masks = Callable[[int], Tensor]


def conv(dims: int) -> type[nn.Module]:
    return nn.Conv2d if dims == 2 else nn.Conv3d


def seen_by(filters: nn.Module, state: Tensor) -> Tensor:
    """Convolve a channels-last state whose first axis and channels change places."""
    swapped = state.transpose(1, -1)  # (B, a, b, C) -> (B, C, b, a)
    return filters(swapped).transpose(1, -1)


class Backbone(nn.Module):
    """Med-NCA's cell: state and two convolutions of it, two linear layers."""

    def __init__(self, channels: int, hidden: int, images: int = 1) -> None:
        super().__init__()
        self.images = images
        self.fc0 = nn.Linear(3 * channels, hidden)
        self.fc1 = nn.Linear(hidden, channels, bias=False)
        for name in ("p0", "p1"):
            filters = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
            setattr(self, name, filters)

    def run(self, state: Tensor, steps: int, masks: Masks) -> Tensor:
        image = state[..., : self.images]
        for step in range(steps):
            found = torch.cat((state, seen_by(self.p0, state), seen_by(self.p1, state)), -1)
            change = self.fc1(F.relu(self.fc0(found)))
            state = state + change * masks(step).unsqueeze(-1)
            state = torch.cat((image, state[..., self.images :]), -1)
        return state


class Basic(nn.Module):
    """The cell of M3D-NCA and OctreeNCA: one depthwise convolution, batch norm or none."""

    def __init__(
        self, dims: int, channels: int, hidden: int, kernel: int, images: int = 1,
        norm: bool = True, running: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.images = images
        self.fc0 = nn.Linear(2 * channels, hidden)
        self.fc1 = nn.Linear(hidden, channels, bias=False)
        self.p0 = conv(dims)(
            channels, channels, kernel, padding=kernel // 2, padding_mode="reflect",
            groups=channels,
        )  # fmt: skip
        kind = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
        self.bn = kind(hidden, track_running_stats=running) if norm else nn.Identity()

    def run(self, state: Tensor, steps: int, masks: Masks) -> Tensor:
        image = state[..., : self.images]
        for step in range(steps):
            hidden = self.fc0(torch.cat((state, seen_by(self.p0, state)), -1))
            hidden = F.relu(self.bn(hidden.movedim(-1, 1)).movedim(1, -1))
            state = state + self.fc1(hidden) * masks(step).unsqueeze(-1)
            state = torch.cat((image, state[..., self.images :]), -1)
        return state


class Fast(nn.Module):
    """The fast cell of OctreeNCA: channels first, no outputs for the image."""

    def __init__(
        self, dims: int, channels: int, hidden: int, kernel: int, images: int = 1,
        norm: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.images = images
        self.fc0 = conv(dims)(2 * channels, hidden, 1)
        self.fc1 = conv(dims)(hidden, channels - images, 1, bias=False)
        self.conv = conv(dims)(
            channels, channels, kernel, padding=kernel // 2, padding_mode="reflect",
            groups=channels,
        )  # fmt: skip
        kind = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
        self.bn = kind(hidden, track_running_stats=False) if norm else nn.Identity()

    def run(self, state: Tensor, steps: int, masks: Masks) -> Tensor:
        first = state.movedim(-1, 1)
        image = first[:, : self.images]
        for step in range(steps):
            hidden = F.relu(self.bn(self.fc0(torch.cat((first, self.conv(first)), 1))))
            rest = first[:, self.images :] + self.fc1(hidden) * masks(step).unsqueeze(1)
            first = torch.cat((image, rest), 1)
        return first.movedim(1, -1)


def pyramid(
    cells: Sequence[Any], image: Tensor, scales: Sequence[tuple[int, ...]], steps: Sequence[int],
    masks: Callable[[int, tuple[int, ...]], Masks], channels: int,
    smaller: Callable[[Tensor, tuple[int, ...]], Tensor],
) -> Tensor:  # fmt: skip
    """Run levels, coarse to fine, on an image ``(B, images, *spatial)``.

    The hidden channels are handed over by nearest enlargement, the image is put in anew. The last
    state ``(B, *spatial, C)`` is returned.
    """
    state = None
    for level, (cell, scale, count) in enumerate(zip(cells, scales, steps, strict=True)):
        view = smaller(image, scale)
        if state is None:
            hidden = view.new_zeros(len(view), channels - view.shape[1], *view.shape[2:])
        else:
            before = scales[level - 1]
            factor = tuple(float(b // s) for b, s in zip(before, scale, strict=True))
            large = F.interpolate(state.movedim(-1, 1), scale_factor=factor, mode="nearest")
            hidden = large[:, view.shape[1] :]
        state = torch.cat((view, hidden), 1).movedim(1, -1)
        state = cell.run(state, count, masks(level, tuple(view.shape[2:])))
    assert state is not None
    return state


def linear_smaller(image: Tensor, scale: tuple[int, ...]) -> Tensor:
    """Med-NCA: linear interpolation, without smoothing."""
    size = [n // s for n, s in zip(image.shape[2:], scale, strict=True)]
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


def pooled_smaller(image: Tensor, scale: tuple[int, ...]) -> Tensor:
    """M3D-NCA: max-pooling by two, again and again."""
    for _ in range(scale[0].bit_length() - 1):
        image = F.max_pool3d(image, 2, 2)
    return image


def nearest_smaller(image: Tensor, scale: tuple[int, ...]) -> Tensor:
    """OctreeNCA: nearest interpolation to the resolution of the level."""
    size = [n // s for n, s in zip(image.shape[2:], scale, strict=True)]
    return F.interpolate(image, size=size)


class NcaLab(nn.Module):
    """NCALab's segmentation in 2D: filters without bias, a rule of 1x1 convolutions, BCWH."""

    def __init__(
        self, images: int, hidden_channels: int, outputs: int, hidden: int, filters: int,
        padding: str = "circular", kernel: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        channels = images + hidden_channels + outputs
        self.images, self.outputs, self.channels = images, outputs, channels
        self.perception = nn.Module()
        self.perception.filters = nn.ModuleList(
            nn.Conv2d(
                channels, channels, kernel, padding=kernel // 2, padding_mode=padding,
                groups=channels, bias=False,
            )
            for _ in range(filters)
        )  # fmt: skip
        self.rule = nn.Module()
        self.rule.network = nn.Sequential(
            nn.Conv2d(channels * ((filters or 2) + 1), hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def perceive(self, state: Tensor) -> list[Tensor]:
        if len(self.perception.filters):
            return [filters(state) for filters in self.perception.filters]
        across = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([-1.0, 0, 1])) / 8
        return [
            F.conv2d(state, f.expand(self.channels, 1, 3, 3), padding=1, groups=self.channels)
            for f in (across, across.t())
        ]

    def forward(self, image: Tensor, steps: int, masks: Masks) -> Tensor:
        state = F.pad(image, (0, 0, 0, 0, 0, self.channels - self.images))
        for step in range(steps):
            change = self.rule.network(torch.cat((state, *self.perceive(state)), 1))
            change = change * masks(step).unsqueeze(1)
            change[:, : self.images] = 0
            state = state + change
        return state[:, -self.outputs :]
