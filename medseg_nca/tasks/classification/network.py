"""The automaton that classifies images: one roll-out, and a readout of all its cells."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models.geometry import level_scales, pad_to_multiple, shrink
from medseg_nca.models.head import build_head
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.engines.base import Record
from medseg_nca.nca.fire import mix

Readout = Literal["votes", "pooled", "attention"]
_STEPS = 7


@dataclass(frozen=True)
class ClassAnswer:
    """The automaton's answer to a batch after some number of steps.

    Attributes:
        logits: ``(B, n, K)``. With "votes" there are logits for every cell; with the other
            readouts there are logits for the image, and n is 1.
        weights: ``(B, n)``, which sum to 1 for each image; a cell that does not vote has 0.
        state: the state ``(B, C, *cells)``.
    """

    logits: Tensor
    weights: Tensor
    state: Tensor

    def probabilities(self, temperature: float | Tensor = 1.0) -> Tensor:
        """Return the weighted mean of the softmax ``(B, K)``; a temperature below 1 sharpens it.

        The temperature divides the logarithm of the mean, so that the order of the classes stays.
        """
        chances = (self.logits.softmax(-1) * self.weights[..., None]).sum(1)
        return (chances.clamp_min(1e-12).log() / temperature).softmax(-1)


class ClassifyingNca(nn.Module):
    """An automaton on one level whose cells answer together.

    The state is ``[image | hidden]``; the image channels never change. The cells of the level are
    ``levels[0].scale`` pixels large and see what they cover as ``shrink`` says.

    Args:
        settings: settings of the model, with the channels that the data ask for.
        classes: number of classes.
        readout: see :class:`~medseg_nca.tasks.classification.options.ClassificationOptions`.
        threshold: one number for each image channel, in the units of the prepared image. A cell
            with no channel above its number neither lives nor votes. None lets all cells vote.

    Raises:
        ConfigError: if the model has several levels, or too few channels.
    """

    def __init__(
        self,
        settings: NcaModelSettings,
        classes: int,
        readout: Readout = "votes",
        threshold: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        levels = settings.resolved_levels
        if len(levels) > 1:
            raise ConfigError(
                f"Model {settings.name!r} has {len(levels)} levels; classification runs on one.",
                hint="Set model.levels=[{scale: 1, steps: 20}], with a larger scale for large "
                "images.",
            )
        if settings.persist is not None:
            raise ConfigError(
                "model.persist has no meaning in the task classification.",
                hint="There, options.looks asks for the answer after several numbers of steps.",
            )
        assert settings.in_channels is not None, "comes from the data"
        self.settings, self.classes, self.readout = settings, classes, readout
        self.threshold = threshold
        self.dims, self.in_channels = settings.dims, settings.in_channels
        self.hidden = settings.cell.channels - self.in_channels
        needed = classes if readout == "votes" and settings.head == "channels" else 1
        if self.hidden < needed:
            raise ConfigError(
                f"model.cell.channels is {settings.cell.channels}: the image takes "
                f"{self.in_channels}, and {needed} are needed besides.",
                hint=f"Set model.cell.channels to at least {self.in_channels + needed}"
                + (", or model.head=linear." if needed > 1 else "."),
            )
        self.scale = level_scales(levels, self.dims)[0]
        self.steps = levels[0].steps
        self.engine = get_engine(settings.engine)
        self.cell = Cell(settings.cell, self.in_channels, self.dims)
        self.head = self._build_head()

    def _build_head(self) -> nn.Module:
        if self.readout == "votes":
            return build_head(self.settings, self.in_channels, self.classes)
        width = self.settings.cell.update.hidden
        if self.readout == "pooled":
            return nn.Sequential(
                nn.Linear(2 * self.hidden, width), nn.ReLU(), nn.Linear(width, self.classes)
            )
        return AttentionHead(self.hidden, width, self.classes)

    @property
    def usual_steps(self) -> int:
        """The number of steps at inference: the rounded mean of the range."""
        return self.steps if isinstance(self.steps, int) else round(sum(self.steps) / 2)

    def start(self, image: Tensor) -> Tensor:
        """Return the first state ``(B, C, *cells)`` of images ``(B, in_channels, *S)``.

        Its hidden channels are 0.
        """
        view = shrink(pad_to_multiple(image, self.scale), self.scale, self.settings.shrink)
        return torch.cat((view, view.new_zeros(len(view), self.hidden, *view.shape[2:])), 1)

    def alive(self, state: Tensor) -> Tensor | None:
        """Return which cells live and vote, bool ``(B, *cells)``; None stands for all cells."""
        if self.threshold is None:
            return None
        limit = state.new_tensor(self.threshold).view(1, -1, *(1,) * self.dims)
        found = (state[:, : self.in_channels] > limit).any(1)
        empty = ~found.flatten(1).any(1)
        return found | empty.view(-1, *(1,) * self.dims)

    def fire(self, state: Tensor, seeds: tuple[int, ...], *, training: bool = False) -> Fire:
        """Return which cells update; each image has a seed of its own."""
        mean = self.settings.fire == "mean" and not training
        rate = self.settings.cell.fire_rate
        return Fire(rate, seeds, "mean" if mean else "sample", awake=self.alive(state))

    def forward(
        self, image: Tensor, seed: int = 0, steps: int | None = None, record: Record | None = None
    ) -> ClassAnswer:
        """Answer images at inference; the answer to one image does not depend on the others.

        Args:
            image: ``(B, in_channels, *S)``, prepared.
            seed: seed of the fire mask, the same for each image.
            steps: number of steps; None takes the usual number.
            record: called with the state after every step.
        """
        state = self.start(image)
        fire = self.fire(state, (mix(seed),) * len(image))
        count = self.usual_steps if steps is None else steps
        return self.read(roll_out(self.engine, self.cell, state, count, fire, record=record))

    def training_answers(self, image: Tensor, seed: int, looks: int) -> list[ClassAnswer]:
        """Answer images in training: with random masks, a random number of steps and several looks.

        Args:
            image: ``(B, in_channels, *S)``, prepared.
            seed: seed of the masks and of the number of steps.
            looks: number of states that are read, from the smallest number of steps to the drawn
                one.
        """
        low, high = (self.steps, self.steps) if isinstance(self.steps, int) else self.steps
        last = random.Random(mix(seed, _STEPS)).randint(low, high)
        first = low if last > low else max(low - looks + 1, 1)
        places = [last - round(k * (last - first) / max(looks - 1, 1)) for k in range(looks)]
        state = self.start(image)
        seeds = tuple(mix(seed, sample) for sample in range(len(image)))
        fire, done, answers = self.fire(state, seeds, training=True), 0, []
        for place in sorted(set(places)):
            state = roll_out(
                self.engine, self.cell, state, place - done, fire.advance(done),
                checkpoint=self.settings.checkpoint,
            )  # fmt: skip
            done = place
            answers.append(self.read(state))
        return answers

    def read(self, state: Tensor) -> ClassAnswer:
        """Read the answer from a state ``(B, C, *cells)``."""
        cells = state.movedim(1, -1).flatten(1, -2)
        alive = self.alive(state)
        says = cells.new_ones(cells.shape[:2]) if alive is None else alive.flatten(1).float()
        shares = says / says.sum(1, keepdim=True)
        if self.readout == "votes":
            return ClassAnswer(self.head(cells), shares, state)
        hidden = cells[..., self.in_channels :]
        if self.readout == "attention":
            logits = self.head(hidden, says)
        else:
            mean = (hidden * shares[..., None]).sum(1)
            most = hidden.masked_fill(says[..., None] == 0, -torch.inf).amax(1)
            logits = self.head(torch.cat((mean, most), -1))
        return ClassAnswer(logits[:, None], logits.new_ones(len(logits), 1), state)

    def cell_shares(self, state: Tensor) -> Tensor:
        """Return what each cell of a state ``(B, C, *cells)`` answers by itself, for pictures.

        Returns:
            ``(B, K, *cells)``. With "votes" these are probabilities. With the other readouts they
            are the readout of the cell alone; with "attention" it is multiplied by the cell's
            weight relative to the largest weight. A cell that does not vote has 0.
        """
        cells = state.movedim(1, -1)
        hidden = cells[..., self.in_channels :]
        if self.readout == "votes":
            chances = self.head(cells).softmax(-1)
        elif self.readout == "pooled":
            chances = self.head(torch.cat((hidden, hidden), -1)).softmax(-1)
        else:
            head = self.head
            assert isinstance(head, AttentionHead)
            weights = head.weights(hidden.flatten(1, -2), None).view(hidden.shape[:-1])
            largest = weights.flatten(1).amax(1).view(-1, *(1,) * self.dims)
            chances = head.out(hidden).softmax(-1) * (weights / largest)[..., None]
        alive = self.alive(state)
        if alive is not None:
            chances = chances * alive[..., None]
        shown: Tensor = chances.movedim(-1, 1)
        return shown


class AttentionHead(nn.Module):
    """Attention pooling of cells: ``a = softmax(w tanh(V h))``, ``logits = W sum(a h) + b``.

    Ilse, Tomczak and Welling, "Attention-based deep multiple instance learning", 2018.
    """

    def __init__(self, hidden: int, width: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(hidden, width), nn.Tanh(), nn.Linear(width, 1))
        self.out = nn.Linear(hidden, classes)

    def weights(self, cells: Tensor, says: Tensor | None) -> Tensor:
        """Return the weight ``(B, n)`` of each cell of ``(B, n, hidden)``; the weights sum to 1."""
        scores = self.score(cells)[..., 0]
        if says is not None:
            scores = scores.masked_fill(says == 0, -torch.inf)
        weights: Tensor = scores.softmax(1)
        return weights

    def forward(self, cells: Tensor, says: Tensor | None = None) -> Tensor:
        """Map cells ``(B, n, hidden)`` to logits ``(B, K)``.

        Args:
            cells: hidden channels of the cells.
            says: ``(B, n)``, 0 for a cell that does not vote; None lets all cells vote.
        """
        pooled = (cells * self.weights(cells, says)[..., None]).sum(1)
        return self.out(pooled)  # type: ignore[no-any-return]


def answer_loss(
    answer: ClassAnswer,
    target: Tensor,
    kind: str,
    smoothing: float,
    weights: Tensor | None,
    agree: float = 1.0,
) -> Tensor:
    """Return the loss of one look.

    With "votes" one share of the loss is the mean of the cells' losses, which asks every cell to be
    right, as in Self-classifying MNIST (Randazzo et al. 2020). The rest is the loss of the cells'
    mean probability.

    Args:
        answer: the answer to the batch.
        target: class of each image, ``(B,)``.
        kind: "cross_entropy" or "l2".
        smoothing: share of the target that is spread over all classes.
        weights: weights of the classes ``(K,)``; None weighs all classes alike.
        agree: the share of the cells' losses, for the cross-entropy.
    """
    classes = answer.logits.shape[-1]
    wanted = F.one_hot(target, classes).float() * (1 - smoothing) + smoothing / classes
    if kind == "l2":
        each = 0.5 * (answer.logits - wanted[:, None]).square().sum(-1)
    else:
        each = -(answer.logits.log_softmax(-1) * wanted[:, None]).sum(-1)
    image = (each * answer.weights).sum(1)
    if kind == "cross_entropy" and agree < 1 and answer.logits.shape[1] > 1:
        spread = answer.weights.clamp_min(1e-30).log()[..., None]
        mixed = torch.logsumexp(answer.logits.log_softmax(-1) + spread, 1)
        image = agree * image - (1 - agree) * (mixed * wanted).sum(-1)
    if weights is None:
        return image.mean()
    share = weights[target]
    return (image * share).sum() / share.sum()
