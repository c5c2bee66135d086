"""Verify that a model is the one that was stored, and still gives its stored answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medseg_nca.config.engines import AUTO, ENGINES
from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import MedsegError, ModelError
from medseg_nca.tracking.resolve import Located, check_hashes, find_files

if TYPE_CHECKING:
    from medseg_nca.tasks.base import TrainedModel


@dataclass(frozen=True)
class Check:
    """The result of one check; ``passed`` is None if there was nothing to compare with."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Verification:
    """The results of all checks of one model."""

    reference: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks passed, or had nothing to compare with."""
        return all(check.passed is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that ``--json`` prints."""
        return {**asdict(self), "passed": self.passed}

    def raise_if_failed(self) -> None:
        """Raise an error if a check failed.

        Raises:
            ModelError: if a check failed; the message names all such checks.
        """
        failed = [f"{c.name}: {c.detail}" for c in self.checks if c.passed is False]
        if failed:
            raise ModelError(
                f"{self.reference}: failed verification. {' '.join(failed)}",
                hint="Register the model again from its run folder.",
            )


def verify(
    reference: str,
    device: str = "cpu",
    tracking: TrackingSettings | None = None,
    *,
    engine: str = AUTO,
) -> Verification:
    """Check a model: its files, their sha256, that it loads, and its stored answer.

    Args:
        reference: a name of the model, as :func:`medseg_nca.tracking.resolve.load_model` takes it.
        device: the device on which the model answers.
        tracking: the store in which registered models are looked up.
        engine: who computes the answer, as :func:`medseg_nca.tracking.resolve.load_model` takes it.

    Raises:
        ModelError: if there is no such model.
        ConfigError: if there is no such engine.
        TrackingError: if the store cannot be used.
    """
    from medseg_nca.tracking.task_files import load_folder

    ENGINES.check(engine)
    found = find_files(reference, tracking)
    checks = [_sha256(found)]
    try:
        loaded = load_folder(found.folder, device, engine)
    except MedsegError as error:
        checks.append(Check("loads", False, error.message))
    else:
        count = len(getattr(loaded.spec, "members", ()))
        several = f"{count} members, " if count > 1 else ""
        detail = f"{loaded.spec.model.name}, {several}{loaded.parameters:,} parameters"
        checks.append(Check("loads", True, detail))
        checks.append(_prediction(loaded))
    finally:
        found.release()
    return Verification(reference, tuple(checks))


def _sha256(found: Located) -> Check:
    """Check that a registered version's files have the sha256 that they were registered with."""
    try:
        check_hashes(found)
    except ModelError as error:
        return Check("sha256", False, error.message)
    if found.hashes:
        return Check("sha256", True, "both files are those that were registered")
    return Check("sha256", None, "not registered; loading compares the weights with model.json")


def _prediction(loaded: TrainedModel) -> Check:
    from medseg_nca.tasks import TASKS

    if not loaded.spec.reference:
        return Check("prediction", None, "no prediction is stored; registering stores one")
    try:
        agreement = TASKS.get(loaded.spec.task).check_reference(loaded)
    except MedsegError as error:
        return Check("prediction", False, error.message)
    return Check("prediction", agreement.passed, agreement.detail)
