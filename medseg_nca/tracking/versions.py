"""What a registry holds: the versions of its models and what is known of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import TrackingError
from medseg_nca.inference.spec import SEGMENTATION
from medseg_nca.tracking.evaluation import DICE
from medseg_nca.tracking.resolve import HASH_TAGS, WEIGHTS, find_version
from medseg_nca.tracking.store import connect, no_warnings, shown, store_errors, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = re.compile(r"[\w][\w.\- ]*")
STATUS_TAG = "validation_status"


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: of the registered model.
        version: counted by the registry.
        uri: the name it is loaded by, ``models:/NAME/VERSION``.
        aliases: other names that point to it, such as "champion".
        evaluated: whether an evaluation belongs to it.
        task: the registered name of the model's task.
        score: of the evaluation, or of the validation in training (see ``score_of``).
        score_name: how people call it, such as "Dice".
        score_of: "evaluation" or "validation".
        status: "pending", and "approved" once it was promoted.
        weights_sha256: of ``weights.safetensors``.
        run_id: MLflow's run that it came from.
        store: the registry, without credentials.
        created: time of registration, ISO 8601 in UTC.
        description: free text.
        tags: all tags of the version.
    """

    name: str
    version: str
    uri: str
    aliases: tuple[str, ...]
    evaluated: bool
    task: str
    score: float | None
    score_name: str
    score_of: str
    status: str
    weights_sha256: str
    run_id: str
    store: str
    created: str
    description: str
    tags: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; a Dice has the names that it had before there were other scores too."""
        old = {"dice": self.score, "dice_of": self.score_of} if self.score_name == DICE else {}
        return {**asdict(self), **old}


def list_models(tracking: TrackingSettings | None = None) -> list[Version]:
    """Return the newest version of every registered model, sorted by name.

    Raises:
        TrackingError: if the store cannot be used.
    """
    client = connect(store_uri((tracking or TrackingSettings()).uri))
    with store_errors("The registry cannot be read"), no_warnings():
        names = sorted(model.name for model in _pages(client.search_registered_models))
        newest = [_versions(client, name)[:1] for name in names]
    return [version for found in newest for version in found]


def list_versions(name: str, tracking: TrackingSettings | None = None) -> list[Version]:
    """Return all versions of a model, the newest first.

    Raises:
        ModelError: if there is no such model.
        TrackingError: if the store cannot be used.
    """
    client = connect(store_uri((tracking or TrackingSettings()).uri))
    check_name(name)
    with store_errors(f"{name!r} cannot be read"), no_warnings():
        found = _versions(client, name)
    if not found:
        find_version(client, f"models:/{name}/1")  # raises, with the names that there are
    return found


def show(
    name: str, version: str | None = None, tracking: TrackingSettings | None = None
) -> Version:
    """Return one version.

    Args:
        name: of the registered model, or ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.
        version: its number or an alias; None takes the newest.
        tracking: which store is meant.

    Raises:
        ModelError: if there is no such version.
        TrackingError: if the store cannot be used.
    """
    if version is None and not name.startswith("models:"):
        return list_versions(name, tracking)[0]
    client = connect(store_uri((tracking or TrackingSettings()).uri))
    with no_warnings():
        found = find_version(client, _reference(name, version))
        return describe_version(client, found)


def check_name(name: str) -> None:
    """Refuse a name that a registered model cannot have.

    Raises:
        TrackingError: with what is allowed.
    """
    if not NAME.fullmatch(name):
        raise TrackingError(
            f"{name!r} cannot be the name of a model.",
            hint="Use letters, digits, spaces and the characters . _ - (no / and no :).",
        )


def _reference(name: str, version: str | None) -> str:
    if name.startswith("models:"):
        return name
    check_name(name)
    return f"models:/{name}/{version}" if str(version).isdecimal() else f"models:/{name}@{version}"


def _versions(client: MlflowClient, name: str) -> list[Version]:
    """All versions of a model, the newest first."""
    found = _pages(client.search_model_versions, f"name='{name}'")
    ordered = sorted(found, key=lambda version: int(version.version), reverse=True)
    return [describe_version(client, version) for version in ordered]


def _pages(search: Any, query: str | None = None) -> list[Any]:
    results: list[Any] = []
    token = None
    while True:
        page = search(filter_string=query, page_token=token)
        results += page
        token = page.token
        if not token:
            return results


def describe_version(client: MlflowClient, entry: Any) -> Version:
    """Return what is known of an entry of MLflow's (a ``ModelVersion``)."""
    tags = {str(key): str(value) for key, value in entry.tags.items()}
    model = client.get_registered_model(entry.name)
    aliases = sorted(a for a, v in model.aliases.items() if str(v) == str(entry.version))
    created = datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC)
    return Version(
        name=entry.name,
        version=str(entry.version),
        uri=f"models:/{entry.name}/{entry.version}",
        aliases=tuple(aliases),
        evaluated=tags.get("evaluated") == "yes",
        task=tags.get("task", SEGMENTATION),
        # Until November 2026 a version had a "dice" and nothing else.
        score=_number(tags.get("score", tags.get("dice"))),
        score_name=tags.get("score_name", DICE),
        score_of=tags.get("score_of", tags.get("dice_of", "")),
        status=tags.get(STATUS_TAG, ""),
        weights_sha256=tags.get(HASH_TAGS[WEIGHTS], ""),
        run_id=str(entry.run_id or ""),
        store=shown(str(client._registry_uri)),
        created=created.isoformat(timespec="seconds"),
        description=entry.description or "",
        tags=tags,
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
