"""Write to the model registry: new versions, their evaluations, and aliases."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import ModelError
from medseg_nca.tracking.evaluation import (
    VALIDATION,
    ScoredResults,
    read_evaluation,
    score_tags,
)
from medseg_nca.tracking.resolve import HASH_TAGS
from medseg_nca.tracking.run import BATCH, flatten, run_tags
from medseg_nca.tracking.store import (
    connect,
    experiment_id,
    no_warnings,
    store_errors,
    store_uri,
)
from medseg_nca.tracking.versions import STATUS_TAG, Version, check_name, describe_version, show

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from medseg_nca.tasks.base import TrainedModel

PENDING, APPROVED = "pending", "approved"
EVALUATION_FOLDER = "evaluation"
logger = logging.getLogger(__name__)

ALIAS_HINT = 'An alias has letters, digits, "-" and "_"; "latest" and v1, v2, ... are taken.'


def register(
    loaded: TrainedModel,
    name: str,
    *,
    tracking: TrackingSettings | None = None,
    run_id: str | None = None,
    evaluation: ScoredResults | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> Version:
    """Store a model as the next version of a registered model.

    Args:
        loaded: the model; its folder holds the two data files.
        name: name of the registered model, which is created if it is new.
        tracking: the store, and the experiment in which a run is created if necessary.
        run_id: id of MLflow's run that trained the model; a new run is created if it is None or
            the store does not have it.
        evaluation: results of ``medseg-nca evaluate``. A version without them cannot be promoted
            until they are added.
        description: free text.
        tags: further tags of the version.

    Raises:
        TrackingError: if the store refuses the request, or the name is not allowed.
        ModelError: if the model cannot answer the input of its stored answer.
    """
    from medseg_nca.tracking.package import content_key, write_package

    check_name(name)
    tracking = tracking or TrackingSettings()
    client = connect(store_uri(tracking.uri), create=True)
    with tempfile.TemporaryDirectory(prefix="medseg_nca_") as temporary:
        hashes = write_package(loaded, Path(temporary))
        run = _run_of(client, loaded, run_id, tracking)
        place = f"registered/{content_key(hashes)}"
        with store_errors(f"The files of {name!r} cannot be stored"):
            client.log_artifacts(run, str(Path(temporary) / "model"), place)
    if evaluation is not None:
        _log_evaluation(client, run, place, evaluation)
    all_tags = {
        **(tags or {}),
        **_model_tags(loaded),
        **{HASH_TAGS[name]: digest for name, digest in hashes.items()},
        STATUS_TAG: PENDING,
        **(evaluation.tags if evaluation else {"evaluated": "no"}),
    }
    with store_errors(f"{name!r} cannot be registered"), no_warnings():
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        made = client.create_model_version(
            name, f"runs:/{run}/{place}", run, tags=all_tags, description=description or None
        )
    return show(name, str(made.version), tracking)


def promote(
    name: str,
    version: str,
    alias: str,
    *,
    tracking: TrackingSettings | None = None,
    evaluation: Path | None = None,
) -> Version:
    """Let an alias, such as "champion", point to a version, after verifying it.

    Args:
        name: name of the registered model.
        version: number of the version, or another alias of it.
        alias: the alias; it no longer points to the version that had it.
        tracking: the store of the registry.
        evaluation: an evaluation (folder or ``metrics.json``) that is added to the version first.

    Raises:
        ModelError: if there is no such version, it has no evaluation, or it fails verification.
        TrackingError: if the store refuses the request.
    """
    from medseg_nca.tracking.verify import verify

    target = show(name, version, tracking)
    client = connect(store_uri((tracking or TrackingSettings()).uri))
    if evaluation is not None:
        target = _add_evaluation(client, target, read_evaluation(evaluation, target.weights_sha256))
    elif not target.evaluated:
        target = _adopt_evaluation(client, target)
    if not target.evaluated:
        raise ModelError(
            f"{target.uri}: has no evaluation, so it cannot be promoted.",
            hint="Run `medseg-nca evaluate --model RUN --out DIR`, with --data if the task needs "
            "data, then promote with --evaluation DIR.",
        )
    if target.tags.get("learned") == "no":
        logger.warning("%s: its training has learned nothing.", target.uri)
    verify(target.uri, tracking=tracking).raise_if_failed()
    with store_errors(f"{target.uri} cannot get the alias {alias!r}", hint=ALIAS_HINT):
        client.set_registered_model_alias(target.name, alias, target.version)
        client.set_model_version_tag(target.name, target.version, STATUS_TAG, APPROVED)
    return show(target.name, target.version, tracking)


def _model_tags(loaded: TrainedModel) -> dict[str, str]:
    from medseg_nca.tasks import TASKS

    spec, task = loaded.spec, TASKS.get(loaded.spec.task)
    tags = {
        "model": spec.model.name,
        "task": spec.task,
        "dataset": spec.training_data,
        "dataset_hash": spec.training_data_hash,
        "package_version": spec.package_version,
        **task.tags(loaded),
    }
    # The first metric of a validation is its score.
    value = next(iter(spec.metrics.values()), None)
    if isinstance(value, int | float):
        tags |= score_tags(task.score, value, VALIDATION)
    return {key: value for key, value in tags.items() if value}


def _run_of(
    client: MlflowClient, loaded: TrainedModel, run_id: str | None, tracking: TrackingSettings
) -> str:
    """Return the id of the run that trained the model if the store has it, else of a new run."""
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    if run_id is not None:
        try:
            return str(client.get_run(run_id).info.run_id)
        except MlflowException:  # it was trained with another store
            pass
    experiment = experiment_id(client, tracking.experiment)
    spec = loaded.spec
    with store_errors("A run for the model cannot be made"):
        run = client.create_run(
            experiment, run_name=spec.name, tags=run_tags(spec.training_data_hash)
        )
        flat = flatten(spec.model.model_dump(mode="json"), "model")
        params = [Param(key, value) for key, value in flat.items()]
        client.log_batch(run.info.run_id, params=params[:BATCH])
        client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _log_evaluation(client: MlflowClient, run: str, place: str, evaluation: ScoredResults) -> None:
    """Store an evaluation beside the version's files, since a run may have several versions."""
    with store_errors("The evaluation cannot be stored"):
        for file in evaluation.files:
            client.log_artifact(run, str(file), f"{place}/{EVALUATION_FOLDER}")


def _add_evaluation(client: MlflowClient, target: Version, evaluation: ScoredResults) -> Version:
    """Add an evaluation to a registered version, and return the version."""
    with store_errors(f"The evaluation of {target.uri} cannot be stored"):
        source = str(client.get_model_version(target.name, target.version).source)
        place = source.removeprefix(f"runs:/{target.run_id}/")
        if place != source:
            _log_evaluation(client, target.run_id, place, evaluation)
        for key, value in evaluation.tags.items():
            client.set_model_version_tag(target.name, target.version, key, value)
        return describe_version(client, client.get_model_version(target.name, target.version))


def _adopt_evaluation(client: MlflowClient, target: Version) -> Version:
    """Add an evaluation of these weights that was logged to the run later, if there is one."""
    if not target.run_id:
        return target
    with tempfile.TemporaryDirectory(prefix="medseg_nca_") as temporary:
        with store_errors(f"The files of run {target.run_id} cannot be read"):
            folders = [f.path for f in client.list_artifacts(target.run_id) if f.is_dir]
            for folder in sorted(f for f in folders if f.startswith(EVALUATION_FOLDER)):
                client.download_artifacts(target.run_id, folder, temporary)
        for place in sorted(Path(temporary).iterdir()):
            try:
                evaluation = read_evaluation(place, target.weights_sha256)
            except ModelError:  # of other weights, or not an evaluation
                continue
            return _add_evaluation(client, target, evaluation)
    return target
