"""A second answer to the same image, shifted by a voxel: what an estimate of quality stands on.

An answer that is right changes little if the image moves by a voxel; of an answer that is wrong the
parts come and go. One such pass tells as much as several stochastic ones (docs/trust.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.config import LabelTable
from medseg_nca.nca.window import cut
from medseg_nca.transforms.encode import decode_channels, written_type
from medseg_nca.trust.features import Certainty

# Below this, a logarithm would be infinite; the product with the probability is 0 anyway.
_TINY = 1e-12


@dataclass
class _Sums:
    """Sums over the voxels of one label."""

    voxels: int = 0
    inside: float = 0.0
    entropy: float = 0.0
    total: float = 0.0

    def certainty(self) -> Certainty:
        if not self.voxels:
            return Certainty(0.0, 0.0, 0.0)
        outside = max(self.total - self.inside, 0.0)
        return Certainty(
            self.inside / self.voxels, self.entropy / self.voxels, outside / self.voxels
        )


class SecondLook:
    """Collects the answer to a shifted image, window by window.

    Args:
        labels: what the channels mean.
        shape: of the prepared image.
    """

    def __init__(self, labels: LabelTable, shape: Sequence[int]) -> None:
        self._labels = labels
        self._map = np.zeros(tuple(shape), written_type(labels))
        self._sums = {name: _Sums() for name in labels.names}

    def add(self, window: tuple[slice, ...], logits: Tensor) -> None:
        """Take the logits ``(1, K, *window)`` of one window."""
        labels = self._labels
        found = (logits.sigmoid() if labels.multi_label else logits.softmax(1))[0].float().cpu()
        decided = decode_channels(found.numpy(), labels)
        self._map[window] = decided
        entropy = _entropy(found, labels.multi_label)
        for label, probability in zip(
            labels.labels, found if labels.multi_label else found[1:], strict=True
        ):
            inside = torch.from_numpy(np.isin(decided, sorted(labels.predicted_values(label))))
            sums = self._sums[label.name]
            sums.voxels += int(inside.sum())
            sums.inside += float(probability[inside].sum(dtype=torch.float64))
            sums.entropy += float(entropy[inside].sum(dtype=torch.float64))
            sums.total += float(probability.sum(dtype=torch.float64))

    def answer(self) -> NDArray[Any]:
        """Return the answer ``(*S)``, shifted back; what left the image repeats its border."""
        back = tuple(slice(1, None) if n > 1 else slice(None) for n in self._map.shape)
        widths = [(0, 1 if n > 1 else 0) for n in self._map.shape]
        return np.pad(self._map[back], widths, mode="edge")

    def certainty(self) -> dict[str, Certainty]:
        """Return what the probabilities say of each label."""
        return {name: sums.certainty() for name, sums in self._sums.items()}


def shifted(image: Tensor) -> Tensor:
    """Return an image ``(B, C, *S)`` moved by one voxel along each axis longer than one voxel.

    The first voxels along each axis are repeated, and the last ones leave the image.
    """
    sizes = image.shape[2:]
    pads = [width for n in reversed(sizes) for width in (1 if n > 1 else 0, 0)]
    return cut(F.pad(image, pads, mode="replicate"), [slice(0, n) for n in sizes])


def _entropy(probabilities: Tensor, multi_label: bool) -> Tensor:
    """Return the entropy of each voxel in nats, ``(*S)``; of several labels the mean."""
    found = -(probabilities * probabilities.clamp_min(_TINY).log())
    if not multi_label:
        return found.sum(0)
    others = 1 - probabilities
    return (found - others * others.clamp_min(_TINY).log()).mean(0)
