"""Collect the probabilities of one image, window by window, and make a label map of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.config import LabelTable
from medseg_nca.nca.window import cut
from medseg_nca.transforms.encode import (
    decode_channels,
    decode_weighed,
    weigh_background,
    written_type,
)
from medseg_nca.transforms.prepare import Trace, restore, restored_slabs, turn_back

FloatArray = NDArray[np.float32]
Window = tuple[slice, ...]


class Votes(ABC):
    """Collects the probabilities of every pass, and makes a label map of them."""

    @abstractmethod
    def add(self, window: Window, probabilities: Tensor) -> None:
        """Take the probabilities ``(K, *window)`` of one window of the prepared image."""

    def end_pass(self) -> None:  # noqa: B027
        """End a pass; every voxel has been added to it."""

    @abstractmethod
    def label_map(self, trace: Trace) -> NDArray[Any]:
        """Return the label map on the source grid, ``(1, *shape)``."""

    @abstractmethod
    def prepared_map(self) -> NDArray[Any]:
        """Return the label map on the grid of the prepared image, ``(*S)``, a copy.

        It is called before :meth:`label_map`, which overwrites what was collected.
        """


class LabelVotes(Votes):
    """Votes of a single pass whose spacing is the image's own: labels are decided at once.

    Only the labels are kept, not the probabilities, which takes the least memory.

    Args:
        shape: of the prepared image.
        labels: what the channels mean.
    """

    def __init__(self, shape: tuple[int, ...], labels: LabelTable) -> None:
        self._labels = labels
        self._map = np.zeros(shape, written_type(labels))

    def add(self, window: Window, probabilities: Tensor) -> None:
        """Implement :meth:`Votes.add`."""
        self._map[window] = decode_channels(_array(probabilities), self._labels)

    def label_map(self, trace: Trace) -> NDArray[Any]:
        """Implement :meth:`Votes.label_map`."""
        found: NDArray[Any] = turn_back(self._map[None], trace)
        return found

    def prepared_map(self) -> NDArray[Any]:
        """Implement :meth:`Votes.prepared_map`."""
        return self._map.copy()


class MeanVotes(Votes):
    """Votes that average all probabilities that were added, and keep sums only.

    Args:
        shape: of the prepared image.
        labels: what the channels mean.
        parts: how often each voxel is added in a pass, for example once for each flip.
        passes: number of passes.
        spread: whether :meth:`spread` will be asked for.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        labels: LabelTable,
        *,
        parts: int = 1,
        passes: int = 1,
        spread: bool = False,
    ) -> None:
        self._labels, self._parts, self._passes = labels, parts, passes
        self._total = torch.zeros(labels.channels, *shape)
        # Flips are averaged before the foreground of a pass is known.
        self._pass = torch.zeros_like(self._total) if spread and parts > 1 else None
        self._moments = torch.zeros(2, *shape) if spread else None
        self._finished = 0

    def add(self, window: Window, probabilities: Tensor) -> None:
        """Implement :meth:`Votes.add`."""
        if self._pass is not None:
            cut(self._pass, window).add_(probabilities.cpu())
            return
        self._take(window, probabilities.cpu())

    def end_pass(self) -> None:
        """Implement :meth:`Votes.end_pass`."""
        if self._pass is not None:
            for start in range(self._pass.shape[1]):
                window = (slice(start, start + 1), *(slice(n) for n in self._pass.shape[2:]))
                self._take(window, cut(self._pass, window).div_(self._parts))
            self._pass.zero_()
        self._finished += 1

    def _take(self, window: Window, probabilities: Tensor) -> None:
        cut(self._total, window).add_(probabilities)
        if self._moments is not None:
            # Welford's recurrence: mean and sum of squared deviations, in one go.
            mean, squares = cut(self._moments, window)
            found = _foreground(probabilities, self._labels.multi_label)
            delta = found - mean
            mean.add_(delta / (self._finished + 1))
            squares.add_(delta * (found - mean))

    def _mean(self) -> FloatArray:
        """Return the mean ``(K, *shape)``; it takes the place of the sums, to save memory."""
        count = self._passes if self._pass is not None else self._passes * self._parts
        mean = _array(self._total.div_(count))
        self._passes = self._parts = 1
        return mean

    def label_map(self, trace: Trace) -> NDArray[Any]:
        """Return the label map as :meth:`Votes.label_map`; call it last: it overwrites the mean."""
        mean, labels = self._mean(), self._labels
        decode: Callable[[FloatArray, LabelTable], NDArray[Any]] = decode_channels
        if trace.prepared != trace.cropped and not labels.multi_label:
            for plane in mean.swapaxes(0, 1):
                weigh_background(plane)
            decode = decode_weighed
        found = np.zeros(trace.cropped.shape, written_type(labels))
        for part, values in restored_slabs(mean, trace):
            found[part] = decode(values, labels)
        back: NDArray[Any] = turn_back(found[None], trace)
        return back

    def prepared_map(self) -> NDArray[Any]:
        """Implement :meth:`Votes.prepared_map`."""
        return decode_channels(self._mean(), self._labels)

    def probabilities(self, trace: Trace) -> FloatArray:
        """Return the mean probabilities on the source grid, ``(K, *shape)``."""
        labels = self._labels
        # Voxels that preprocessing cut off are background.
        cut_off = (
            (0.0,) * labels.channels if labels.multi_label else (1.0, *(0.0,) * len(labels.labels))
        )
        found: FloatArray = restore(self._mean(), trace, tuple(cut_off))
        return found

    def spread(self, trace: Trace) -> FloatArray | None:
        """Return the standard deviation of the foreground over the passes, ``(1, *shape)``.

        It is None unless ``spread`` was asked for when the votes were made.
        """
        if self._moments is None:
            return None
        squares = self._moments[1]
        found: FloatArray = restore(_array(squares.div_(self._finished).sqrt_()[None]), trace)
        return found


def _foreground(probabilities: Tensor, multi_label: bool) -> Tensor:
    return probabilities.amax(0) if multi_label else 1 - probabilities[0]


def _array(values: Tensor) -> FloatArray:
    array: FloatArray = values.float().cpu().numpy()
    return array
