"""The interface that training and inference use of a segmentation model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor, nn

from medseg_nca.job import ONE_CASE, Job
from medseg_nca.models.views import View, ViewSpec

Recorder = Callable[[int, Tensor], None]
# A function that takes the logits ``(B, K, *window)`` of a window of the image. It is called for
# windows that together hold each voxel once.
Sink = Callable[[tuple[slice, ...], Tensor], None]


class LevelOutput(NamedTuple):
    """The output of one level in training, for all views of that level.

    It is a tuple, because Fabric looks for tensors inside tuples when several processes train.

    Attributes:
        logits: ``(N, K, *cells)`` for the ``N`` views of the level.
        weight: weight of the level in the loss.
        state: last state ``(N, C, *cells)``, for the overflow penalty; None if the model has none.
    """

    logits: Tensor
    weight: float = 1.0
    state: Tensor | None = None


@dataclass(frozen=True)
class RunOptions:
    """How a model is run at inference; a model ignores the options that it has no use for.

    Attributes:
        seed: seed of the fire mask.
        fire: mode of the fire mask, "sample" or "mean"; None takes the model's own setting.
        memory_gb: memory that the model may use, in 10^9 bytes, besides the image and what the
            sink keeps; an image that needs more is computed in tiles. None sets no limit.
        record: called with the level's index and the state after every step; a model with focus
            then computes all cells of every level.
        precision: type in which an automaton's state is stored from step to step.
        job: gets the progress, and is asked before every tile and batch of steps whether to go on.
        steps: how many steps each level of an automaton takes, coarse to fine; None takes
            :attr:`SegmentationModel.steps`.
    """

    seed: int = 0
    fire: Literal["sample", "mean"] | None = None
    memory_gb: float | None = None
    record: Recorder | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    job: Job = field(default_factory=Job)
    steps: tuple[int, ...] | None = None


class SegmentationModel(nn.Module, ABC):
    """A model that maps an image to logits, in 2D or 3D.

    Attributes:
        dims: number of spatial axes.
        in_channels: number of image channels.
        out_channels: number of logit channels.
        stochastic: whether the result depends on the seed.
    """

    dims: int
    in_channels: int
    out_channels: int
    stochastic: bool = False

    @abstractmethod
    def forward(self, image: Tensor, options: RunOptions | None = None) -> Tensor:
        """Map an image ``(B, in_channels, *spatial)``, any size, to logits ``(B, K, *spatial)``."""

    def stream(self, image: Tensor, options: RunOptions, sink: Sink) -> None:
        """Hand the logits to a sink in parts, so that they need not all fit in memory at once.

        Args:
            image: ``(B, in_channels, *spatial)``.
            options: how to run the model.
            sink: called with each window and its logits ``(B, K, *window)``.
        """
        sink(tuple(slice(0, n) for n in image.shape[2:]), self(image, options))
        options.job.report(ONE_CASE, 1, 1)

    def least_bytes(self, shape: Sequence[int], options: RunOptions) -> float | None:
        """Return the least memory in bytes that an image ``(1, in_channels, *shape)`` needs.

        The image itself is not counted. None is returned if the model cannot tell.
        """
        return None

    @property
    def steps(self) -> tuple[int, ...]:
        """How many steps each level takes at inference, coarse to fine; () for a model without."""
        return ()

    @property
    @abstractmethod
    def views(self) -> tuple[ViewSpec, ...]:
        """What each level sees of a training sample, coarse to fine."""

    @abstractmethod
    def training_outputs(self, views: Sequence[View], seed: int) -> list[LevelOutput]:
        """Run the model as in training, on views of the levels instead of a whole image.

        Args:
            views: one for each entry of :attr:`views`. The views of a level lie inside those of the
                level before, equally many in each.
            seed: decides the fire masks and the numbers of steps.

        Returns:
            One output for each level, coarse to fine.
        """

    def parameter_count(self) -> int:
        """Return the number of learned parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
