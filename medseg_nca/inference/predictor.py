"""The one predictor: from a volume to a label map on the same grid.

Validation, ``evaluate``, ``predict`` and serving all use it, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, product

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError
from medseg_nca.inference.accepted import (
    check_flip_axes,
    compare_with_training,
    flipped_back,
    tells_memory,
)
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.estimates import Estimates
from medseg_nca.inference.memory import direct_labels, footprint, refuse
from medseg_nca.inference.spec import strange_labels
from medseg_nca.inference.step_factor import scaled_steps
from medseg_nca.inference.votes import LabelVotes, MeanVotes, Votes
from medseg_nca.io.peek import Extent
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.models import RunOptions, SegmentationModel
from medseg_nca.models.base import Sink
from medseg_nca.nca.window import cut
from medseg_nca.transforms.islands import remove_islands
from medseg_nca.transforms.likeness import Likeness
from medseg_nca.transforms.prepare import Trace, check_axes, prepare
from medseg_nca.trust.estimate import Estimate
from medseg_nca.trust.features import Features


@dataclass(frozen=True)
class Prediction:
    """The answer to one volume; everything is on the grid of that volume.

    Attributes:
        label_map: integers ``(1, *shape)``, the numbers of the label table. Islands of the labels
            that the setting ``largest`` names are removed here, and only here.
        probabilities: ``(K, *shape)`` in channel order; None unless the settings ask for them.
        uncertainty: ``(1, *shape)``, the standard deviation of the foreground probability over the
            stochastic passes and the members of an ensemble; None unless the settings ask for it.
        likeness: how the image compares with the images of the training.
        estimate: how good the label map probably is.
        features: what the estimate stands on, by name of the label; None if it was not measured.
    """

    label_map: Volume
    likeness: Likeness
    estimate: Estimate
    probabilities: Volume | None = None
    uncertainty: Volume | None = None
    features: Mapping[str, Features] | None = None


def flip_sets(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield all combinations of the axes; the first is the empty one."""
    return chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))


class Predictor:
    """Predicts volumes with one model, or with an ensemble, whose probabilities it averages.

    Args:
        loaded: the model with its plan and label table.
        settings: prediction settings that replace those that the model carries.
        keeps_budget: if true, an image that needs more memory than ``settings.memory_budget_gb``
            is refused; if false, it is predicted with the least memory possible.
        measures: whether the features of each answer are measured though the model cannot estimate
            its answers yet.

    Raises:
        ConfigError: if the settings do not fit the model.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        settings: PredictionSettings | None = None,
        *,
        keeps_budget: bool = True,
        measures: bool = False,
    ) -> None:
        self.loaded = loaded
        self.keeps_budget = keeps_budget
        self.model = loaded.model
        self.spec = loaded.spec
        self.settings = loaded.spec.decided(settings or loaded.spec.prediction)
        self._estimates = Estimates(loaded, self.settings, always=measures)
        self._check()

    def _check(self) -> None:
        dims, name = self.spec.plan.dims, self.spec.name
        check_flip_axes(self.settings, dims)
        for member in self.loaded.members:
            scaled_steps(member, self.settings.step_factor)
        strange = strange_labels(self.settings, self.spec.labels)
        if strange is not None:
            raise ConfigError(strange)
        alike = not self.model.stochastic and len(self.loaded.members) == 1
        if self.settings.uncertainty and alike:
            raise ConfigError(
                f"Model {name!r} has no fire mask, so that its passes would all be the same.",
                hint="Leave prediction.uncertainty out.",
            )

    def check_memory(self, extent: Extent, name: str) -> None:
        """Check, before an image is read, that the memory budget is large enough for it.

        Args:
            extent: shape and spacing of the image, from the header of its file.
            name: what the message calls the image.

        Raises:
            MemoryBudgetError: if the budget is too small; the message says how much memory the
                image needs, and which option to change.
        """
        if tells_memory(extent, self.spec.plan) and self.keeps_budget:
            refuse(self.loaded, self.settings, extent, name)

    @torch.inference_mode()
    def predict(self, volume: Volume, job: Job | None = None) -> Prediction:
        """Segment one volume ``(C, *shape)``.

        Args:
            volume: the image.
            job: gets the progress, in the phase :data:`medseg_nca.job.ONE_CASE`, and is asked
                before every pass, tile and batch of steps whether to go on.

        Raises:
            ImageError: if the volume does not fit the model or cannot be used, or if it is unlike
                the images of the training and the settings refuse such volumes.
            MemoryBudgetError: if the memory budget is too small.
            Interrupted: if the job was cancelled.
        """
        job = job or Job()
        job.check()
        check_axes(volume, self.spec.plan)
        likeness = compare_with_training(volume, self.spec.plan, self.settings)
        left = self._memory_left(Extent.of(volume), volume.name)
        prepared = prepare(volume, likeness.plan)
        trace = prepared.trace
        image = torch.from_numpy(prepared.image).unsqueeze(0).to(self.loaded.device)
        del prepared
        votes = self._votes(trace)
        extra = self._estimates.bytes(image)
        # Without room for a second look the answer comes without an estimate.
        looks = 0.0 < extra <= left - self._least(image)
        left -= extra if looks else 0.0
        self._run(image, votes, left / 1e9, job, looks)
        features = self._features(image, votes, likeness, left / 1e9, job) if looks else None
        del image
        probabilities = uncertainty = None
        if isinstance(votes, MeanVotes):
            probabilities = votes.probabilities(trace) if self.settings.probabilities else None
            uncertainty = votes.spread(trace)
        label_map = votes.label_map(trace)
        del votes
        remove_islands(label_map[0], self.settings.kept_labels, self.spec.labels)
        return Prediction(
            label_map=volume.with_array(label_map),
            likeness=likeness,
            estimate=self._estimates.estimate(features, label_map[0], likeness),
            features=features,
            probabilities=None if probabilities is None else volume.with_array(probabilities),
            uncertainty=None if uncertainty is None else volume.with_array(uncertainty),
        )

    def _memory_left(self, extent: Extent, name: str) -> float:
        """Return the bytes that the model itself may use."""
        budget = self.settings.memory_budget_gb * 1e9
        if self.keeps_budget:
            return refuse(self.loaded, self.settings, extent, name).left(budget)
        found = footprint(self.loaded, self.settings, extent, name)
        return max(found.left(budget), found.model or 0.0)

    def _least(self, image: Tensor) -> float:
        """Return the bytes that the model itself needs at least, as far as they are known."""
        sizes = zip(image.shape[2:], self.spec.plan.crop_size, strict=True)
        options = self._options(self.model, 0, None, Job())
        return self.model.least_bytes([max(n, s) for n, s in sizes], options) or 0.0

    def _features(
        self, image: Tensor, votes: Votes, likeness: Likeness, memory_gb: float, job: Job
    ) -> Mapping[str, Features]:
        """Look at the image a second time, with one member and without flips."""
        parts = self._runs() + 1
        job, fire = job.part(parts - 1, parts), self.settings.fire
        # Passes for an uncertainty map change nothing here: it is as it was when it was fitted.
        options = replace(self._options(self.model, self.settings.seed, memory_gb, job), fire=fire)

        def stream(moved: Tensor, sink: Sink) -> None:
            stream_padded(self.model, moved, self.spec.plan.crop_size, options, sink)

        answer = votes.prepared_map()
        return self._estimates.features(image, answer, likeness.target, stream)

    def _votes(self, trace: Trace) -> Votes:
        settings, shape, labels = self.settings, trace.prepared.shape, self.spec.labels
        if direct_labels(self.loaded, settings) and trace.prepared == trace.cropped:
            return LabelVotes(shape, labels)
        passes = self._passes()
        return MeanVotes(
            shape, labels, parts=len(passes[0]) * 2 ** len(settings.flip_axes), passes=len(passes),
            spread=settings.uncertainty > 0,
        )  # fmt: skip

    def _passes(self) -> list[list[tuple[SegmentationModel, int]]]:
        """Return, for each pass, the models that take part, each with the seed of its fire mask.

        Without uncertainty there is one pass, in which all members take part. With uncertainty the
        members take turns, one in each pass, and all have equally many passes; so the spread over
        passes includes the fire masks and the members. A member without a fire mask has one pass,
        because its passes would all be the same.
        """
        members, settings = self.loaded.members, self.settings
        if not settings.uncertainty:
            return [[(member, settings.seed) for member in members]]
        rounds = -(-settings.uncertainty // len(members)) if self.model.stochastic else 1
        return [
            [(member, settings.seed + number * len(members) + index)]
            for number in range(rounds)
            for index, member in enumerate(members)
        ]

    def _runs(self) -> int:
        """Return how often a model is run on the image, without a second look."""
        flips = len(list(flip_sets(self.settings.flip_axes)))
        return flips * sum(map(len, self._passes()))

    def _options(
        self, member: SegmentationModel, seed: int, memory_gb: float | None, job: Job
    ) -> RunOptions:
        settings = self.settings
        return RunOptions(
            seed=seed,
            fire="sample" if settings.uncertainty else settings.fire,
            memory_gb=memory_gb,
            precision=settings.precision,
            job=job,
            steps=scaled_steps(member, settings.step_factor),
        )

    def _run(self, image: Tensor, votes: Votes, memory_gb: float, job: Job, looks: bool) -> None:
        """Run all passes, members and flips, and add each window of probabilities to the votes."""
        sets = list(flip_sets(self.settings.flip_axes))
        total = self._runs() + int(looks)
        count = 0
        for runs in self._passes():
            for (member, seed), axes in product(runs, sets):
                options = self._options(member, seed, memory_gb, job.part(count, total))
                count += 1
                flipped = image.flip([axis + 2 for axis in axes]) if axes else image
                sink = self._sink(votes, axes, image.shape[2:])
                stream_padded(member, flipped, self.spec.plan.crop_size, options, sink)
            votes.end_pass()

    def _sink(self, votes: Votes, axes: tuple[int, ...], shape: Sequence[int]) -> Sink:
        """Return a sink that flips logits of a flipped image back and adds them to the votes."""
        multi = self.spec.labels.multi_label

        def sink(window: tuple[slice, ...], logits: Tensor) -> None:
            probabilities = (logits.sigmoid() if multi else logits.softmax(1))[0]
            place = flipped_back(window, axes, shape)
            votes.add(place, probabilities.flip([a + 1 for a in axes]) if axes else probabilities)

        return sink


def stream_padded(
    model: SegmentationModel,
    image: Tensor,
    smallest: Sequence[int],
    options: RunOptions,
    sink: Sink,
) -> None:
    """Run a model on ``(B, C, *spatial)`` padded to the size it was trained on.

    The padding repeats the voxels at the border, half on each side, just as training samples are
    padded. The sink gets logits of the image without its padding.
    """
    large, place = padded(image, smallest)
    if large is image:
        model.stream(image, options, sink)
        return
    before, ends = [part.start for part in place], [part.stop for part in place]

    def cut_back(window: tuple[slice, ...], logits: Tensor) -> None:
        inner = [
            slice(max(w.start, b), min(w.stop, e))
            for w, b, e in zip(window, before, ends, strict=True)
        ]
        if all(i.start < i.stop for i in inner):
            spans = list(zip(inner, window, before, strict=True))
            part = cut(logits, (slice(i.start - w.start, i.stop - w.start) for i, w, _ in spans))
            sink(tuple(slice(i.start - b, i.stop - b) for i, _, b in spans), part)

    model.stream(large, options, cut_back)


def padded(image: Tensor, smallest: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """Pad an image ``(B, C, *spatial)`` to a size, as :func:`stream_padded` does.

    Returns:
        The padded image, which is the image itself if it is large enough; and where the image lies
        in it.
    """
    sizes = image.shape[2:]
    missing = [max(s - n, 0) for s, n in zip(smallest, sizes, strict=True)]
    before = [m // 2 for m in missing]
    place = tuple(slice(b, b + n) for b, n in zip(before, sizes, strict=True))
    if not any(missing):
        return image, place
    pads = [v for m, b in zip(missing, before, strict=True) for v in (b, m - b)]
    # F.pad takes the widths of the last axis first.
    reverse = [pads[i + j] for i in range(len(pads) - 2, -1, -2) for j in (0, 1)]
    return F.pad(image, reverse, mode="replicate"), place
