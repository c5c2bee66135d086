"""Every decision of a run that nobody made, with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medseg_nca.config import RunSettings
from medseg_nca.config.auto import AUTO, LEFT_TO_PLAN, has_key, says_auto, value_at
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.datasets.prepared import PreparedCase, PreparedStore
from medseg_nca.datasets.splits import Split
from medseg_nca.io.formats import RASTER, TIFF, image_suffix
from medseg_nca.models.auto import auto_levels
from medseg_nca.recipe import numbers, schedule
from medseg_nca.recipe.planned import plan_reason, plan_value
from medseg_nca.recipe.size import CellSize, cell_size, with_size
from medseg_nca.recipe.symmetry import Symmetry, mirror_axes

# The reason that is given for a setting that the user or a preset decided.
SET = "set by you or a preset"


@dataclass(frozen=True)
class Decision:
    """One setting of the recipe.

    Attributes:
        key: as ``--set`` takes it.
        value: as YAML and JSON have it.
        reason: in words; :data:`SET` where the user or a preset decided.
    """

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Machine:
    """What the training runs on.

    Attributes:
        cores: of the CPU, for this process.
        device: "cpu", "cuda" or another of torch's types.
    """

    cores: int
    device: str


def batch_size(settings: RunSettings, dims: int) -> int:
    """Samples of an iteration: set, or the recipe's for so many axes."""
    free = "training.batch_size" in settings.undecided
    return numbers.BATCH[dims] if free else settings.training.batch_size


def is_undecided(settings: RunSettings, key: str) -> bool:
    """Whether a setting is "auto"; one that the model does not have is not."""
    return says_auto(settings.model_dump(mode="json"), key)


def decide(
    settings: RunSettings, store: PreparedStore, split: Split, machine: Machine
) -> tuple[RunSettings, tuple[Decision, ...]]:
    """Decide what is "auto"; what the user or a preset set stays.

    One exception: if the data were prepared by other preprocessing settings, the settings follow
    the data.

    The same settings, data and machine give the same decisions: nothing is timed.

    Args:
        settings: of the run.
        store: the prepared data set.
        split: whose training part is looked at.
        machine: that will train.

    Returns:
        The settings without any "auto" that the recipe knows, and one decision for each key that
        it could have decided, in the order of the work.
    """
    recipe = _Recipe(settings, store, split, machine)
    decided: dict[str, tuple[Any, str]] = {}
    for key, make in recipe.rules().items():
        if is_undecided(settings, key):
            decided[key] = make()
        elif other := recipe.prepared_otherwise(key):
            decided[key] = other
    values = {key: value for key, (value, _) in decided.items()}
    resolved = settings.with_values(values)
    tree = resolved.model_dump(mode="json")
    known = [key for key in recipe.rules() if has_key(tree, key)]  # a network has no cell
    rows = (Decision(k, value_at(tree, k), decided[k][1] if k in decided else SET) for k in known)
    return resolved, tuple(rows)


class _Recipe:
    """The rules, on one data set."""

    def __init__(
        self, settings: RunSettings, store: PreparedStore, split: Split, machine: Machine
    ) -> None:
        self.settings, self.store, self.machine = settings, store, machine
        self.training = [store.case(name) for name in split.train]
        self.validation = [store.case(name) for name in split.val]
        self.minutes = settings.training.max_minutes
        self.plan = store.plan

    def rules(self) -> dict[str, Callable[[], tuple[Any, str]]]:
        """For each key a function that decides it and returns value and reason."""
        planned = {key: self._planned(key) for key in LEFT_TO_PLAN}
        return {
            **planned,
            "model.levels": self._levels,
            "model.cell.channels": self._channels,
            "model.cell.update.hidden": self._hidden,
            "training.iterations": lambda: schedule.iterations(self.minutes),
            "training.batch_size": self._batch,
            "training.optimiser": self._optimiser,
            "training.lr": self._rate,
            "training.warmup": lambda: schedule.warmup(self.minutes, self._iterations),
            "training.validate_every": lambda: (self._validations.every, self._validations.often),
            "training.validate_cases": lambda: (self._validations.cases, self._validations.much),
            "training.checkpoint_every": lambda: schedule.checkpoint_every(
                self.minutes, self._every
            ),
            "training.workers": self._workers,
            "augment.flip_axes": self._flips,
            "augment.rotate90": self._turns,
        }

    def _planned(self, key: str) -> Callable[[], tuple[Any, str]]:
        return lambda: (plan_value(self.plan, key), plan_reason(self.store, key))

    def prepared_otherwise(self, key: str) -> tuple[Any, str] | None:
        """What was done to the data where the settings say something else."""
        if not key.startswith("preprocess."):
            return None
        wanted = value_at(self.settings.model_dump(mode="json"), key)
        done = plan_value(self.plan, key)
        if wanted == done:
            return None
        return done, f"the data were prepared so; prepare them anew for {wanted}"

    def _levels(self) -> tuple[Any, str]:
        levels = auto_levels(self.plan)
        size = " x ".join(map(str, self.plan.crop_size))
        spacing = " x ".join(f"{v:.3g}" for v in self.plan.usual_spacing)
        reason = f"{len(levels)} levels: samples of {size} voxels of {spacing} mm"
        return [level.model_dump(mode="json") for level in levels], reason

    @property
    def _model(self) -> ModelSettings:
        """The model with all that the data decide, except for the size of a cell."""
        model = self.settings.model
        sizes: dict[str, object] = {
            "dims": self.plan.dims,
            "in_channels": self.plan.in_channels,
            "out_channels": self.store.labels.channels,
        }
        if isinstance(model, NcaModelSettings) and model.levels == AUTO:
            sizes["levels"] = auto_levels(self.plan)
        return model.changed(**sizes)

    @property
    def _sized(self) -> ModelSettings:
        model = self._model
        if not isinstance(model, NcaModelSettings):
            return model
        return with_size(model, self._channels()[0], self._hidden()[0])

    @cached_property
    def _size(self) -> CellSize:
        model = self._model
        assert isinstance(model, NcaModelSettings)
        free = self.settings.undecided
        return cell_size(
            model,
            len(self.store.labels.labels),
            channels=None if "model.cell.channels" in free else model.cell.channels,
            hidden=None if "model.cell.update.hidden" in free else model.cell.update.hidden,
        )

    def _channels(self) -> tuple[int, str]:
        size = self._size
        images, labels = self.plan.in_channels, len(self.store.labels.labels)
        bound = "" if size.channels == size.wanted else f"; {size.wanted} would be too many weights"
        return size.channels, f"{images} of the image, {labels} label(s){bound}"

    def _hidden(self) -> tuple[int, str]:
        size = self._size
        most = f"at most {numbers.MOST_PARAMETERS:,}"
        return size.hidden, f"the model has {size.parameters:,} parameters, {most}"

    @property
    def _iterations(self) -> int:
        if "training.iterations" in self.settings.undecided:
            return schedule.iterations(self.minutes)[0]
        return self.settings.training.iterations

    @property
    def _every(self) -> int | float:
        if "training.validate_every" in self.settings.undecided:
            return self._validations.every
        return self.settings.training.validate_every

    def _batch(self) -> tuple[int, str]:
        return batch_size(self.settings, self.plan.dims), f"{self.plan.dims}D"

    @property
    def _is_planned(self) -> bool:
        """Whether an automaton is on the levels of the plan, which nobody named.

        Levels that are named here were decided already, or belong to a published model.
        """
        model = self.settings.model
        return isinstance(model, NcaModelSettings) and model.levels == AUTO

    def _optimiser(self) -> tuple[str, str]:
        if self._is_planned:
            return numbers.OPTIMISER_PLANNED, "an automaton on the levels of the plan"
        return numbers.OPTIMISER, "the usual one"

    def _rate(self) -> tuple[float, str]:
        optimiser = self.settings.training.optimiser
        if "training.optimiser" in self.settings.undecided:
            optimiser = self._optimiser()[0]  # type: ignore[assignment]
        if optimiser == "muon":
            return numbers.LR_MUON, "Muon on the matrices of the model"
        if self._is_planned:
            return numbers.LR_PLANNED, "an automaton on the levels of the plan"
        return numbers.LR, "the usual one"

    @cached_property
    def _validations(self) -> schedule.Validations:
        every = self.settings.training.validate_every
        share = None
        if "training.validate_every" not in self.settings.undecided:
            # How many iterations fit into the minutes is not known yet, so the rhythm is a share.
            share = every if every < 1 else 1 / numbers.VALIDATIONS
        shapes = [case.shape for case in self.validation]
        seconds = 0.0
        if self.machine.device == "cpu" and self.minutes is not None:
            seconds = schedule.case_seconds(self._sized, shapes, self.machine.cores)
        return schedule.validations(self.minutes, self._iterations, len(shapes), seconds, share)

    def _workers(self) -> tuple[int, str]:
        cores = self.machine.cores
        if cores < 2:
            return 0, "one core: the training prepares its samples itself"
        if self.machine.device == "cpu":
            return numbers.CPU_WORKERS, f"{cores} cores: samples are prepared beside the training"
        return min(cores // 2, numbers.GPU_WORKERS), f"{cores} cores beside the GPU"

    @cached_property
    def _symmetry(self) -> Symmetry:
        return mirror_axes(self.training, self.store.labels.names, self.plan.dims)

    def _flips(self) -> tuple[list[int], str]:
        return list(self._symmetry.axes), self._symmetry.reason

    def _turns(self) -> tuple[bool, str]:
        if self.plan.dims != 2:
            return False, "volumes"
        if not all(_is_picture(case) for case in self.training):
            return False, "images with an anatomical orientation"
        if len(self._symmetry.axes) < 2:
            return False, "not a mirror on both axes"
        first, second = self.plan.crop_size
        if abs(first - second) > numbers.SQUARE * max(first, second):
            return False, f"samples of {first} x {second} are not square"
        return True, "pictures without orientation, mirrors on both axes, square samples"


def _is_picture(case: PreparedCase) -> bool:
    """Whether a case comes as a picture, whose axes are directions of the page."""
    return all(image_suffix(path) in (*RASTER, *TIFF) for path in case.images)
