"""A growing automaton and its targets, as the probes of its dynamics see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medseg_nca.dynamics.subject import (
    Array,
    Measure,
    Need,
    ProbedCase,
    Scores,
    Subject,
    SubjectRequest,
)
from medseg_nca.inference.step_factor import times_steps
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.nca import Fire
from medseg_nca.nca.fire import mix
from medseg_nca.nca.start import RollOutStart
from medseg_nca.tasks.generation.damage import fixed_damage
from medseg_nca.tasks.generation.evaluation import evaluation_options
from medseg_nca.tasks.generation.growth import facts_of, module_of, wanted_of
from medseg_nca.tasks.generation.options import WOUNDS


class GrowthSubject(Subject):
    """A growing automaton; a case is a target, and an answer is the picture ``(V, *grid)``.

    Args:
        model: the model.
        request: how many targets are probed.

    Raises:
        ConfigError: if a setting does not fit.
    """

    score: ClassVar[Measure] = Measure("loss (mean squared error)", "lower")
    agreement: ClassVar[Measure] = Measure("mean squared difference", "lower")

    def __init__(self, model: TaskModel, request: SubjectRequest) -> None:
        self.model = model
        self.seed = evaluation_options(request.overrides).seed
        names = facts_of(model).targets[: request.cases]
        self.cases = tuple(names)
        self.steps = (module_of(model).steps,)
        missing: dict[Need, str] = {
            "images": "a growth begins with a seed and sees no image that could be changed."
        }
        if module_of(model).settings.cell.fire_rate >= 1:
            missing["masks"] = "every cell updates in every step, so that there is no fire mask."
        self.missing: Mapping[Need, str] = missing
        self.facts = {
            "data": {"name": "", "hash": ""},
            "split": {"name": "all", "reason": "The targets that the model has learned."},
            "seed": self.seed,
            "notes": [],
        }

    def open(self, case: str) -> GrowthCase:
        """Implement :meth:`Subject.open`."""
        return GrowthCase(self, case, self.cases.index(case))


class GrowthCase(ProbedCase):
    """One target."""

    smooth = True

    def __init__(self, subject: GrowthSubject, name: str, target: int) -> None:
        self.subject, self.id, self.target = subject, name, target
        self.wanted = wanted_of(subject.model, target)

    def answer(
        self,
        *,
        image: Volume | None = None,
        factor: float | Sequence[float] = 1.0,
        seed: int | None = None,
        job: Job | None = None,
    ) -> Array:
        """Implement :meth:`ProbedCase.answer`; ``image`` is not used."""
        with (job or Job()).at_work():
            state = self.start(0, seed).go(times_steps(self.subject.steps, factor)[0])
        return self.read(state)

    def score(self, answer: Array, window: tuple[slice, ...] | None = None) -> Scores:
        """Implement :meth:`ProbedCase.score`."""
        return {"loss": float(np.square(answer - self.wanted.numpy()).mean())}

    def agreement(self, answer: Array, other: Array) -> Scores:
        """Implement :meth:`ProbedCase.agreement`."""
        return {"difference": float(np.square(answer - other).mean())}

    @torch.inference_mode()
    def start(self, level: int, seed: int | None = None) -> RollOutStart:
        """Implement :meth:`ProbedCase.start`; the growth is that of ``evaluate``."""
        module = module_of(self.subject.model)
        state = module.seed_state(module.genome(self.target)).to(self.subject.model.device)
        key = mix(self.subject.seed if seed is None else seed, 0)
        fire = Fire(module.settings.cell.fire_rate, (key,), module.settings.fire)
        start = RollOutStart(module.engine, module.cell, state, fire, module.steps)
        return start if seed is None else start.masked("sample")

    def read(self, state: Tensor) -> Array:
        """Implement :meth:`ProbedCase.read`."""
        found: Array = module_of(self.subject.model).visible(state)[0].float().cpu().numpy()
        return found.copy()

    def object_cells(self, state: Tensor) -> Tensor | None:
        """Implement :meth:`ProbedCase.object_cells`: where alpha is."""
        return module_of(self.subject.model).visible(state)[0, -1] > 0.1

    def wounds(self) -> Mapping[str, Tensor]:
        """Implement :meth:`ProbedCase.wounds`: those of ``evaluate``."""
        return {name: fixed_damage(self.wanted[-1], name) for name in WOUNDS}
