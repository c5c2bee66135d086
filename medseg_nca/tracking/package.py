"""The folder that is stored for a registered model: the two data files and MLflow's frame."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import medseg_nca
from medseg_nca.inference.bundle import SPEC, WEIGHTS, file_sha256
from medseg_nca.io.atomic import write_text
from medseg_nca.tasks import TASKS
from medseg_nca.tasks.base import TrainedModel
from medseg_nca.tracking import provenance
from medseg_nca.tracking.store import no_warnings, quiet

SCRIPT = Path(__file__).with_name("pyfunc_model.py")


def write_package(loaded: TrainedModel, folder: Path) -> dict[str, str]:
    """Write a models-from-code pyfunc into ``folder/model``, without pickles.

    The data files lie in ``artifacts``; ``model.json`` gets a stored answer, by which
    ``verify`` recognises the model on another machine.

    Returns:
        The sha256 of each data file by its name.

    Raises:
        OutputError: if the folder cannot be written.
    """
    pair = folder / "pair"
    pair.mkdir(parents=True)
    reference = TASKS.get(loaded.spec.task).make_reference(loaded)
    write_text(pair / SPEC, loaded.spec.changed(reference=reference).to_json())
    shutil.copyfile(loaded.folder / WEIGHTS, pair / WEIGHTS)
    quiet()
    from mlflow import pyfunc

    quiet()
    with no_warnings():
        pyfunc.save_model(
            path=str(folder / "model"),
            python_model=str(SCRIPT),
            artifacts={"weights": str(pair / WEIGHTS), "spec": str(pair / SPEC)},
            pip_requirements=_requirements(),
        )
    return {name: file_sha256(pair / name) for name in (WEIGHTS, SPEC)}


def content_key(hashes: dict[str, str]) -> str:
    """Return a short name for exactly these two files, so that no version replaces another's."""
    joined = "".join(hashes[name] for name in sorted(hashes))
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _requirements() -> list[str]:
    torch = provenance.package_version("torch")
    pinned = [f"torch=={torch.partition('+')[0]}"] if torch else []
    return [f"medseg-nca=={medseg_nca.__version__}", *pinned]
