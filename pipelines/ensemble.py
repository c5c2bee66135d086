"""Join several models to an ensemble: folds of a cross-validation, or runs of other seeds."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg_nca.config.loading import read_settings, to_yaml
from medseg_nca.config.training import TrackingSettings
from medseg_nca.datasets.redraw import split_file
from medseg_nca.datasets.splits import Split, join_splits, write_split
from medseg_nca.errors import ModelError, OutputError
from medseg_nca.inference.bundle import SPEC, LoadedModel, save_ensemble
from medseg_nca.inference.ensemble import TWICE, join_specs
from medseg_nca.inference.largest import EVIDENCE, IslandTrial
from medseg_nca.inference.spec import ModelSpec
from medseg_nca.io.atomic import write_json, write_text
from medseg_nca.pipelines.run_folder import MODEL, RESULT, SETTINGS, SPLIT, training_of
from medseg_nca.tracking.resolve import load_segmentation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EnsembleResult:
    """The result of joining models to an ensemble.

    Attributes:
        run: folder of the ensemble, which commands accept in place of a run folder.
        members: the names of the members, as they were given.
        parameters: number of learned parameters of all members together.
        learned: whether every member is better than a constant answer; None if it is not known.
        data: folder of the data set that all members were trained on; None if they have none in
            common.
        held_out: "test" if there are cases that no member has seen, else None.
    """

    run: str
    members: tuple[str, ...]
    parameters: int
    learned: bool | None
    data: str | None = None
    held_out: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values for ``--json`` and ``training.json``."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def run(
    members: Sequence[Path | str],
    out: Path,
    *,
    name: str | None = None,
    tracking: TrackingSettings | None = None,
    force: bool = False,
) -> EnsembleResult:
    """Write an ensemble: ``out/model`` with the weights of all members, and their common split.

    Args:
        members: run folders, or any other names of models.
        out: folder of the ensemble, created if it does not exist.
        name: name of the ensemble; None takes the members' name without their fold.
        tracking: the store in which registered members are looked up.
        force: whether a model that is already in ``out`` is replaced.

    Raises:
        ModelError: if a member cannot be read, or the members do not fit each other; the message
            names member and field.
        OutputError: if ``out`` holds a model or a run already, or cannot be written.
    """
    taken = [place for place in (out / MODEL / SPEC, out / SPEC, out / "checkpoints")
             if place.exists()]  # fmt: skip
    if taken and not force:
        raise OutputError(
            f"{out}: already holds a model.", hint="Use --force to replace it, or another folder."
        )
    models: dict[str, LoadedModel] = {}
    for member in map(str, members):
        if member in models:
            raise ModelError(f"{member}: is named twice.", hint=TWICE)
        models[member] = load_segmentation(member, "cpu", tracking)
    spec = _with_islands(models, join_specs(models, name))
    save_ensemble(out / MODEL, [model.model for model in models.values()], spec)
    split = _split(models)
    if split is not None:
        write_split(split, out / SPLIT)
    _write_settings(models, spec, out)
    result = _result(models, spec, split, out)
    write_json(out / RESULT, result.to_dict())
    return result


def _with_islands(models: Mapping[str, LoadedModel], spec: ModelSpec) -> ModelSpec:
    """Decide on islands from the validation cases of all members together, if they are known.

    Each case was predicted by a member that was not trained on it.
    """
    trial = IslandTrial(spec.labels)
    for model in models.values():
        try:
            text = (model.folder.parent / EVIDENCE).read_text(encoding="utf-8")
            trial.include(IslandTrial.from_dict(spec.labels, json.loads(text)))
        except (OSError, ValueError, KeyError, TypeError):
            return spec  # what all members agree on
    names, reasons = trial.decide()
    for reason in reasons:
        logger.info("%s", reason)
    prediction = spec.prediction.changed(largest=names)
    return spec.changed(prediction=prediction)


def _split(models: Mapping[str, LoadedModel]) -> Split | None:
    splits = {where: split_file(model.folder) for where, model in models.items()}
    known = [split for split in splits.values() if split is not None]
    if len(known) == len(splits):
        joined = join_splits(known)
        if not joined.test:
            logger.warning(
                "Every case of the members' splits was seen by one of them: there is none to test "
                "the ensemble on."
            )
        return joined
    without = [where for where, split in splits.items() if split is None]
    logger.warning(
        "%s came without a split: nobody can tell which cases the ensemble has not seen, and its "
        "evaluation on the data of the training would be too good.", ", ".join(without),
    )  # fmt: skip
    return None


def _write_settings(models: Mapping[str, LoadedModel], spec: ModelSpec, out: Path) -> None:
    """Write the settings of the first member's run, with what all members have in common."""
    first = next(iter(models.values()))
    file = first.folder.parent / SETTINGS
    if not file.is_file():
        return
    settings = read_settings(file)
    split = settings.data.split.changed(fold=None, folds=None)
    data = settings.data.changed(split=split)
    changes = {"name": spec.name, "data": data, "prediction": spec.prediction}
    write_text(out / SETTINGS, to_yaml(settings.changed(**changes)))


def _result(
    models: Mapping[str, LoadedModel], spec: ModelSpec, split: Split | None, out: Path
) -> EnsembleResult:
    told = [training_of(model.folder) for model in models.values()]
    learned = [tree.get("learned") for tree in told]
    # Each fold that was trained on raw data has a prepared copy of them, all with the same content.
    data = [tree.get("data") for tree in told]
    alike = len(set(data)) == 1 or spec.training_data_hash
    return EnsembleResult(
        run=str(out),
        members=tuple(models),
        parameters=sum(model.parameters for model in models.values()),
        learned=False if False in learned else None if None in learned else True,
        data=str(data[0]) if alike and data[0] else None,
        held_out="test" if split is not None and split.test else None,
    )
