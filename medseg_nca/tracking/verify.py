"""Whether a model is the one that was stored, and still does what it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import MedsegError, ModelError
from medseg_nca.tracking.resolve import Located, check_hashes, find_files

if TYPE_CHECKING:
    from medseg_nca.tasks.base import TrainedModel


@dataclass(frozen=True)
class Check:
    """One thing looked at; ``passed`` is None when there was nothing to compare with."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Verification:
    """All checks of one model."""

    reference: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "passed": self.passed}

    def raise_if_failed(self) -> None:
        """Refuse a model that failed.

        Raises:
            ModelError: naming the checks that failed.
        """
        failed = [f"{c.name}: {c.detail}" for c in self.checks if c.passed is False]
        if failed:
            raise ModelError(
                f"{self.reference}: failed verification. {' '.join(failed)}",
                hint="Register the model again from its run folder.",
            )


def verify(
    reference: str, device: str = "cpu", tracking: TrackingSettings | None = None
) -> Verification:
    """Check files, sha256, loading and the stored prediction of a model.

    Args:
        reference: see :func:`medseg_nca.tracking.resolve.load_model`.
        device: where the prediction is made.
        tracking: which store registered models are looked up in.

    Raises:
        ModelError: if there is no such model at all.
        TrackingError: if the store cannot be used.
    """
    from medseg_nca.tracking.task_files import load_folder

    found = find_files(reference, tracking)
    checks = [_sha256(found)]
    try:
        loaded = load_folder(found.folder, device)
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
    """The files are those that were registered; outside a registry, those that the model names."""
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
