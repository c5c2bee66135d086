"""What training and inference ask of a segmentation model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor, nn

from medseg_nca.job import ONE_CASE, Job
from medseg_nca.models.views import View, ViewSpec

Recorder = Callable[[int, Tensor], None]
# Takes the logits ``(B, K, *window)`` of a window of the image; each voxel comes once.
Sink = Callable[[tuple[slice, ...], Tensor], None]


class LevelOutput(NamedTuple):
    """What one level of a model says in training about its views.

    A tuple, because that is what Fabric takes apart when it wraps a model for several processes.

    Attributes:
        logits: ``(N, K, *cells)`` for the views of the level.
        weight: share in the loss.
        state: ``(N, C, *cells)`` where the model has one (for the overflow penalty).
    """

    logits: Tensor
    weight: float = 1.0
    state: Tensor | None = None


@dataclass(frozen=True)
class RunOptions:
    """How a model is run at inference; what a model has no use for, it ignores.

    Attributes:
        seed: of the fire mask.
        fire: "sample" or "mean", None for the model's own setting.
        memory_gb: compute in parts when the whole needs more (10^9 bytes, besides the image and
            what the sink keeps); None never does.
        record: called with the level's index and the state after every step; a model with focus
            then runs every level whole.
        precision: in which an automaton's state is kept from step to step.
        job: told how far it is, and looked at before every tile and batch of steps.
    """

    seed: int = 0
    fire: Literal["sample", "mean"] | None = None
    memory_gb: float | None = None
    record: Recorder | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    job: Job = field(default_factory=Job)


class SegmentationModel(nn.Module, ABC):
    """Image to logits, in 2D or 3D.

    Attributes:
        dims: spatial axes.
        in_channels: image channels.
        out_channels: logit channels.
        stochastic: whether the seed changes the result.
    """

    dims: int
    in_channels: int
    out_channels: int
    stochastic: bool = False

    @abstractmethod
    def forward(self, image: Tensor, options: RunOptions | None = None) -> Tensor:
        """Map an image ``(B, in_channels, *spatial)``, any size, to logits ``(B, K, *spatial)``."""

    def stream(self, image: Tensor, options: RunOptions, sink: Sink) -> None:
        """Hand the logits over in parts, as soon as they are known, so that they need no room.

        Args:
            image: ``(B, in_channels, *spatial)``.
            options: how to run.
            sink: takes them.
        """
        sink(tuple(slice(0, n) for n in image.shape[2:]), self(image, options))
        options.job.report(ONE_CASE, 1, 1)

    def least_bytes(self, shape: Sequence[int], options: RunOptions) -> float | None:
        """The least memory in which an image ``(1, in_channels, *shape)`` can be run, besides it.

        None where the model cannot tell.
        """
        return None

    @property
    @abstractmethod
    def views(self) -> tuple[ViewSpec, ...]:
        """What each level looks at in training, coarse to fine."""

    @abstractmethod
    def training_outputs(self, views: Sequence[View], seed: int) -> list[LevelOutput]:
        """Run the model as it is trained.

        Args:
            views: one for each of :attr:`views`; those of a level lie inside those of the level
                before, as many in each.
            seed: decides masks and numbers of steps.

        Returns:
            One output a level, coarse to fine.
        """

    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
