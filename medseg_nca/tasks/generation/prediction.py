"""Grow with a trained automaton, from the seed or from a picture that goes on growing."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medseg_nca.config.loading import validate, with_overrides
from medseg_nca.datasets.layout import safe_id
from medseg_nca.errors import (
    ConfigError,
    ImageError,
    NonFiniteStateError,
    OutputError,
    PartialFailure,
)
from medseg_nca.inference.engine_choice import engine_settings
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.atomic import write_json
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.job import Job
from medseg_nca.nca.fire import mix
from medseg_nca.suggest import unknown
from medseg_nca.tasks.base import PredictRequest
from medseg_nca.tasks.generation.damage import fixed_damage
from medseg_nca.tasks.generation.growth import (
    Film,
    facts_of,
    grow,
    module_of,
    shown,
    spread,
    wanted_of,
    wound,
)
from medseg_nca.tasks.generation.options import PredictionOptions
from medseg_nca.tasks.generation.targets import read_start
from medseg_nca.viz.growth import growth_gif, rgba_png

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.json"
# Name, picture (V, *grid) and genome of a target; a mixed genome has neither name nor picture.
Wish = tuple[str | None, Tensor | None, tuple[float, ...]]
_VOLUMES = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha"}


@dataclass(frozen=True)
class Grown:
    """What became of one growth.

    Attributes:
        name: name of the files, without suffix.
        source: the picture that it began with; None for the seed.
        target: name of the target; None for a mixed genome.
        genome: the genome that the cells were given.
        seed: seed of the fire mask.
        steps: number of steps that were taken.
        loss: mean squared error to the target; None for a mixed genome.
        outputs: the files that were written, by kind.
        seconds: the time that the growth took.
        error: why the growth failed; None if it did not.
    """

    name: str
    source: Path | None
    target: str | None
    genome: tuple[float, ...]
    seed: int
    steps: int = 0
    loss: float | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None

    @property
    def line(self) -> str:
        """The files, the seconds, the steps and the loss, or the error, for the terminal."""
        if self.error is not None:
            return self.error
        files = "  ".join(self.outputs.values())
        loss = "" if self.loss is None else f"  loss {self.loss:.2e}"
        return f"{files}  {self.seconds:.2f} s  {self.steps} steps{loss}"

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that ``predictions.json`` holds and ``--json`` prints."""
        return {
            "name": self.name,
            "source": None if self.source is None else str(self.source),
            "target": self.target,
            "genome": list(self.genome),
            "seed": self.seed,
            "steps": self.steps,
            "loss": self.loss,
            "outputs": dict(self.outputs),
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }


def prediction_options(request: PredictRequest) -> PredictionOptions:
    """Return the options of a request: those of ``--set``, and ``--seed``.

    Raises:
        ConfigError: if an option is unknown or wrong; the message names it.
    """
    tree = with_overrides({}, request.overrides)
    tree |= {name: request.options[name] for name in ("seed",) if name in request.options}
    return validate(PredictionOptions, tree, source="--set")


def wishes(model: TaskModel, options: PredictionOptions) -> list[Wish]:
    """Return name, picture ``(V, *grid)`` and genome of everything that is to be grown.

    Raises:
        ConfigError: if there is no such target, or the genome is of another length.
    """
    module, names = module_of(model), facts_of(model).targets
    if options.genome is not None:
        if len(options.genome) != len(names):
            raise ConfigError(
                f"genome has {len(options.genome)} numbers; this model grows {len(names)} targets."
            )
        return [(None, None, options.genome)]
    chosen = list(range(len(names)))
    if isinstance(options.target, int):
        if not 0 <= options.target < len(names):
            raise ConfigError(f"target {options.target}: there are 0 to {len(names) - 1}.")
        chosen = [options.target]
    elif options.target is not None:
        if options.target not in names:
            raise ConfigError(unknown("target", options.target, names))
        chosen = [names.index(options.target)]
    return [(names[n], wanted_of(model, n), module.genome(n)) for n in chosen]


def run(request: PredictRequest, model: TaskModel, job: Job) -> list[Grown]:
    """Grow, and write pictures (volumes for 3D), animations and ``predictions.json``.

    Raises:
        ConfigError: for an option that is unknown or does not fit the model.
        PartialFailure: after the last growth, if some growths failed.
        OutputError: if a file would overwrite an input, or cannot be written.
        Interrupted: if the job was cancelled.
    """
    options = prediction_options(request)
    suffix = _suffix(request.formats, len(module_of(model).shape.grid))
    _check_damage(options, options.steps or module_of(model).steps)
    plan = _plan(request, model, options)
    (request.out / PREDICTIONS).unlink(missing_ok=True)
    results: list[Grown] = []
    for number, (wish, wanted) in enumerate(plan):
        job.report("predicting", number, len(plan), unit="images")
        results.append(_one(wish, wanted, request.out, model, options, suffix, job))
    job.report("predicting", len(plan), len(plan), unit="images")
    tree = {
        "format_version": 1,
        "task": model.spec.task,
        "model": {"name": model.spec.name, "weights_sha256": model.spec.weights_sha256},
        "options": options.model_dump(mode="json"),
        "settings": engine_settings(model),
        "predictions": [result.to_dict() for result in results],
    }
    write_json(request.out / PREDICTIONS, tree)
    failed = {result.name: result.error for result in results if result.error is not None}
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(results)} failed; {request.out / PREDICTIONS} says why.",
            failures=failed,
        )
    return results


def _plan(
    request: PredictRequest, model: TaskModel, options: PredictionOptions
) -> list[tuple[Grown, Tensor | None]]:
    starts: Sequence[Path | None] = [Path(path) for path in request.inputs] or [None]
    plan, names = [], set()
    for start in starts:
        for target, wanted, genome in wishes(model, options):
            for number in range(options.count):
                parts = [start.name.partition(".")[0]] if start else []
                several = module_of(model).shape.targets > 1
                parts += [safe_id(target or "mixed")] if several or not start else []
                parts += [f"seed{options.seed + number}"] if options.count > 1 else []
                name = "_".join(parts)
                if name in names:
                    raise OutputError(
                        f"{name}: two inputs would get results of this name.",
                        hint="Give them different names.",
                    )
                names.add(name)
                seed = options.seed + number
                plan.append((Grown(name, start, target, genome, seed), wanted))
    taken = {path.resolve() for path in request.inputs}
    for wish, _ in plan:
        for end in (".png", ".gif", *_VOLUMES.values()):
            if (request.out / f"{wish.name}{end}").resolve() in taken:
                raise OutputError(
                    f"{request.out / wish.name}{end}: is an input, and would be overwritten.",
                    hint="Choose another --out.",
                )
    return plan


def _suffix(formats: Sequence[str], dims: int) -> str:
    known = {"png": ".png"} if dims == 2 else _VOLUMES
    for name in formats:
        if name not in known:
            raise ConfigError(
                f"--format {name}: what this model grows is written as {', '.join(known)}."
            )
    if len(formats) > 1:
        raise ConfigError("--format: the task generation writes one format at a time.")
    return known[formats[0]] if formats else next(iter(known.values()))


def _one(
    wish: Grown, wanted: Tensor | None, out: Path, model: TaskModel, options: PredictionOptions,
    suffix: str, job: Job,
) -> Grown:  # fmt: skip
    started = time.monotonic()
    about = {key: getattr(wish, key) for key in ("name", "source", "target", "genome", "seed")}
    try:
        state = start_state(model, wish.source, wish.genome)
        steps = options.steps or module_of(model).steps
        film = Film(spread(steps, options.frames - 1))
        film.first(module_of(model).visible(state))
        state, taken = grow_wounded(model, state, steps, wish.seed, options, film, job)
        seen = module_of(model).visible(state)[0].float().cpu()
        loss = None if wanted is None else float((seen - wanted).square().mean())
        outputs = _write(seen.numpy(), out / wish.name, suffix, model)
        if options.animation:
            gif = out / f"{wish.name}.gif"
            growth_gif(film.frames, shown(film.numbers), gif, scale=_scale(options, seen))
            outputs["animation"] = str(gif)
    except (ImageError, NonFiniteStateError) as error:
        name = str(wish.source or wish.name)
        text = str(error) if str(error).startswith(name) else f"{name}: {error}"
        logger.error("%s", text)
        return Grown(**about, error=text)
    return Grown(
        **about, steps=taken, loss=loss, outputs=outputs, seconds=time.monotonic() - started
    )


def _check_damage(options: PredictionOptions, steps: int) -> None:
    """Refuse damage after the last step.

    Raises:
        ConfigError: if ``damage_at`` is larger than the number of steps.
    """
    at = options.damage_at
    if options.damage != "none" and at is not None and at > steps:
        raise ConfigError(
            f"damage_at is {at}, but only {steps} steps are taken.",
            hint="Set more steps, or a smaller damage_at.",
        )


def grow_wounded(
    model: TaskModel, state: Tensor, steps: int, seed: int, options: PredictionOptions,
    film: Film | None, job: Job,
) -> tuple[Tensor, int]:  # fmt: skip
    """Take some steps, and damage the state in between, as the options say.

    Returns:
        The state, and the number of all steps that were taken.
    """
    fire = mix(seed, 0)
    if options.damage == "none":
        return grow(model, state, steps, fire, 0, film, job)
    at = steps // 2 if options.damage_at is None else options.damage_at
    state, before = grow(model, state, at, fire, 0, film, job) if at else (state, 0)
    alpha = module_of(model).targets.amax(0)[-1].cpu()
    state = wound(model, state, fixed_damage(alpha, options.damage))
    if steps == at:
        return state, before
    state, after = grow(model, state, steps - at, fire, at, film, job)
    return state, before + after


def start_state(model: TaskModel, source: Path | None, genome: Sequence[float]) -> Tensor:
    """Return the seed, or a state that shows a picture: ``(1, C, *grid)``.

    The living cells of a picture have the hidden channels of a seed's cell.

    Raises:
        ImageError: if the picture cannot be read or does not fit.
    """
    module = module_of(model)
    if source is None:
        return module.seed_state(genome)
    array = read_start(source, module.shape.visible, module.shape.grid)
    return picture_state(model, torch.from_numpy(array)[None], genome)


def picture_state(model: TaskModel, seen: Tensor, genome: Sequence[float]) -> Tensor:
    """Return a state that shows pictures ``(B, V, *grid)``; see :func:`start_state`."""
    module = module_of(model)
    first, visible = module.shape.genome_channels, module.shape.visible
    state = torch.zeros(seen.shape[0], module.cell.channels, *module.shape.grid)
    state[:, first : first + visible] = seen
    state[:, first + visible :] = (seen[:, visible - 1 : visible] > 0.1).float()
    return module.with_genome(state, genome)


def _write(seen: np.ndarray[Any, Any], stem: Path, suffix: str, model: TaskModel) -> dict[str, str]:
    if suffix == ".png":
        return {"image": str(rgba_png(seen, stem.parent / f"{stem.name}.png"))}
    affine = np.array(facts_of(model).affine, float)
    outputs = {}
    for kind, values in (("image", seen[:-1]), ("alpha", seen[-1:])):
        path = stem.parent / f"{stem.name}{'' if kind == 'image' else '_alpha'}{suffix}"
        write_volume(Volume(np.ascontiguousarray(values[:1], np.float32), affine), path)
        outputs[kind] = str(path)
    return outputs


def _scale(options: PredictionOptions, seen: Tensor) -> int:
    return options.scale if max(seen.shape[1:3]) * options.scale <= 2048 else 1
