"""The learner of generation: a pool of states, a loss on what is grown, and a validation."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg_nca.config import RunSettings
from medseg_nca.inference.task_model import TaskSpec, save_task_model, spec_of_run
from medseg_nca.job import Job
from medseg_nca.nca.damage import random_damage
from medseg_nca.nca.fire import mix
from medseg_nca.tasks.generation.automaton import GrowingNca, Shape
from medseg_nca.tasks.generation.damage import fixed_damage
from medseg_nca.tasks.generation.options import GenerationOptions
from medseg_nca.tasks.generation.pool import SamplePool
from medseg_nca.tasks.generation.targets import Targets
from medseg_nca.training.learner import Batch, ConstantAnswer, Learner, Parts, Validation
from medseg_nca.training.level_loss import overflow

TASK_NAME = "generation"
# In a validation, growth goes on for this many times the trained steps.
KEPT = 10
_SEED_OF_VALIDATION = 0x5EED
_EPS = 1e-8


class GrowingLearner(Learner):
    """Learns to grow targets from seeds, keep them, and mend them (Growing NCA, Distill 2020).

    ``sample`` decides which slot of the pool a sample takes and where it is damaged, from the index
    alone. Only ``loss`` reads and writes the pool, in the process that trains.
    """

    def __init__(self, settings: RunSettings, options: GenerationOptions, targets: Targets) -> None:
        self.settings, self.options, self.targets = settings, options, targets
        self.shape = Shape(
            targets.grid, targets.visible, len(targets.names), options.genome, options.seeds
        )
        self.wanted = torch.from_numpy(targets.array)
        with torch.random.fork_rng(devices=()):
            model = GrowingNca(settings.model, self.shape)
        seeds = torch.cat([model.seed_state(model.genome(t)) for t in range(self.shape.targets)])
        self.seeds = seeds
        # The pool has at least one slot of every target for each sample of a batch.
        size = max(options.pool, settings.training.batch_size * self.shape.targets)
        self.pool = SamplePool(seeds, size)

    def build_model(self) -> GrowingNca:
        """Implement :meth:`Learner.build_model`."""
        model = GrowingNca(self.settings.model, self.shape)
        with torch.no_grad():
            model.targets.copy_(self.wanted)
        if self.options.normalise_gradients:
            for parameter in model.parameters():
                parameter.register_post_accumulate_grad_hook(_normalise)  # type: ignore[no-untyped-call]
        return model

    def sample(self, index: int) -> Batch:
        """Implement :meth:`Learner.sample`: a slot of the pool, and a number that draws its wound.

        Each sample of a batch takes its slot from another part of the pool, so that no two samples
        have the same slot.
        """
        batch = self.settings.training.batch_size
        part, places = index % batch, self.pool.size // batch
        slot = part * places + mix(self.settings.seed, 0x5107, index) % places
        return {"slot": slot, "wound": mix(self.settings.seed, 0xDA3A6E, index)}

    def loss(self, model: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, Parts]:
        """Return the mean squared error after a random number of steps, plus the overflow penalty.

        Before the steps the worst states of the batch are replaced by seeds, and the best ones are
        damaged. After the steps all states go back to the pool.
        """
        slots: list[int] = batch["slot"].tolist()
        device = batch["slot"].device
        numbers = [self.pool.target_of(slot) for slot in slots]
        wanted = self.wanted[numbers]
        begin = self._prepared(self.pool.take(slots), numbers, batch["wound"].tolist())
        low, high = self.trained_steps
        steps = random.Random(seed).randint(low, high)
        after: Tensor = model(begin.to(device), steps, seed)
        first = self.shape.genome_channels
        seen = after[:, first : first + self.shape.visible].float()
        error = (seen - wanted.to(device)).square().mean()
        training = self.settings.training
        excess = overflow(after.float(), training.overflow_bound)
        self.pool.put(slots, after)
        parts = {"loss_image": error.detach(), "loss_overflow": excess.detach()}
        return error + training.overflow * excess, parts

    @property
    def trained_steps(self) -> tuple[int, int]:
        """The fewest and the most steps of a sample."""
        steps = self.settings.model.resolved_levels[0].steps  # type: ignore[union-attr]
        return steps if isinstance(steps, tuple) else (steps, steps)

    def _prepared(self, states: Tensor, numbers: Sequence[int], wounds: Sequence[int]) -> Tensor:
        """Replace the worst states by seeds, and damage the best ones; the others do not change."""
        first, visible = self.shape.genome_channels, self.shape.visible
        error = (states[:, first : first + visible] - self.wanted[list(numbers)]).square()
        order: list[int] = error.flatten(1).mean(1).sort(descending=True, stable=True)[1].tolist()
        for place in order[: self.options.reseed]:
            states[place] = self.seeds[numbers[place]]
        rest = order[self.options.reseed :]
        for place in rest[len(rest) - min(self.options.damaged, len(rest)) :]:
            states[place, first:] *= random_damage(self.shape.grid, wounds[place])
        return states

    def validate(
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> Validation:
        """Measure the peak signal-to-noise ratio (dB) of a growth, long after, and after damage.

        "grown" is after the trained steps, "kept" after ten times as many, and "mended" after half
        of the picture was cut off and the trained steps were taken once more. The score is the
        lowest of the three, as a mean over the targets.
        """
        assert isinstance(model, GrowingNca)
        found: dict[str, list[float]] = {"grown": [], "kept": [], "mended": []}
        for number in range(self.shape.targets):
            wanted = self.wanted[number]
            seed = [mix(_SEED_OF_VALIDATION, number)]
            state, steps = self.seeds[number : number + 1].to(device), model.steps
            keep = fixed_damage(wanted[-1], "half").to(device)
            done = 0
            for name, until in (("grown", 1), ("kept", KEPT), ("mended", KEPT + 1)):
                if name == "mended":
                    state[:, self.shape.genome_channels :] *= keep
                while done < until * steps:
                    if job is not None:
                        job.check()
                    with torch.no_grad():
                        state = model.run(state, steps, seed, done)
                    done += steps
                loss = (model.visible(state)[0].cpu() - wanted).square().mean()
                found[name].append(psnr(float(loss)))
        means = {f"psnr_{name}": float(np.mean(values)) for name, values in found.items()}
        scores = [min(values) for values in zip(*found.values(), strict=True)]
        cases = dict(zip(self.targets.names, scores, strict=True))
        score = float(np.mean(scores))
        return Validation(score, {"psnr": score, **means}, cases)

    def constant_answer(self, batches: Sequence[Batch], device: torch.device) -> ConstantAnswer:
        """Implement :meth:`Learner.constant_answer`: the mean colour of all targets everywhere."""
        axes = (0, *range(2, self.wanted.ndim))
        mean = self.wanted.mean(axes, keepdim=True)
        errors = (self.wanted - mean).square().flatten(1).mean(1)
        return ConstantAnswer(
            float(errors.mean()), float(np.mean([psnr(float(error)) for error in errors]))
        )

    def state_dict(self) -> dict[str, Any]:
        """Implement :meth:`Learner.state_dict`: the pool."""
        return {"pool": self.pool.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Implement :meth:`Learner.load_state_dict`."""
        self.pool.load_state_dict(state["pool"])

    def spec(self, validation: Validation | None) -> TaskSpec:
        """Return the content of ``model.json``."""
        facts = {
            "targets": list(self.targets.names),
            "grid": list(self.shape.grid),
            "visible": self.shape.visible,
            "affine": self.targets.affine.tolist(),
        }
        return spec_of_run(
            self.settings,
            self.settings.model,
            options=self.options,
            facts=facts,
            metrics=validation.metrics if validation else None,
        )

    def save(self, model: nn.Module, folder: Path, validation: Validation | None) -> None:
        """Implement :meth:`Learner.save`."""
        save_task_model(folder, model, self.spec(validation))

    def figures(self, model: nn.Module, device: torch.device, folder: Path) -> list[Path]:
        """Draw how each target grows, as a strip of pictures and as an animation."""
        from medseg_nca.tasks.generation.pictures import draw_growth

        assert isinstance(model, GrowingNca)
        return draw_growth(model, self.targets.names, folder)


def psnr(loss: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error of values from 0 to 1."""
    return -10 * math.log10(max(loss, _EPS))


def _normalise(parameter: Tensor) -> None:
    if parameter.grad is not None:
        parameter.grad.div_(parameter.grad.norm() + _EPS)
