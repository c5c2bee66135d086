"""Made-up patients: a folder that ``medseg-nca data phantom`` wrote, and how it is written.

The layout is the decathlon's; ``dataset.json`` also says from which seed the cases were made.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from medseg_nca.datasets.adapters.msd import ADAPTER as MSD
from medseg_nca.datasets.adapters.msd import FILE
from medseg_nca.datasets.base import DataSet
from medseg_nca.datasets.layout import read_json_object
from medseg_nca.errors import DataError, OutputError
from medseg_nca.io.atomic import atomic_folder, write_json
from medseg_nca.job import Job

KEY = "phantom"
VERSION = 1  # of the generator: raised when the same seed gives other cases


class PhantomFolder:
    """See :class:`medseg_nca.datasets.find.Adapter`."""

    layout = "what `medseg-nca data phantom` writes"
    rank = 10

    def recognises(self, path: Path) -> bool:
        """A folder whose dataset.json says that it is a phantom."""
        try:
            return path.is_dir() and KEY in read_json_object(path / FILE)
        except DataError:
            return False

    def open(self, path: Path) -> DataSet:
        """Read it as what it is: a data set in the decathlon's layout."""
        return replace(MSD.open(path), format="phantom")


ADAPTER = PhantomFolder()


def write_phantom(
    out: Path,
    cases: int,
    seed: int = 0,
    dims: Literal[2, 3] = 3,
    size: tuple[int, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
    job: Job | None = None,
) -> Path:
    """Make a data set of phantoms; case ``i`` of a seed is the same whatever ``cases`` is.

    Args:
        out: the folder to make; all of it appears at once, when everything is written.
        cases: how many.
        seed: two seeds have no case in common.
        dims: 2 or 3.
        size: voxels an axis, about; None takes a small default.
        spacing: mm an axis, about; None takes an anisotropic default.
        job: told how far it is, under the phase "generating".

    Raises:
        DataError: if a number is out of range.
        OutputError: if ``out`` is in use or cannot be written.
        Interrupted: if the job was cancelled; nothing is then written.
    """
    from medseg_nca.datasets.anatomy import make_phantom

    if cases < 1 or seed < 0:
        raise DataError("A phantom needs at least 1 case and a seed of 0 or more.")
    job = job or Job()
    _check_free(out)
    names = [f"phantom_{i:05d}" for i in range(cases)]
    with atomic_folder(out) as folder:
        for index, name in enumerate(names):
            phantom = make_phantom(seed, index, dims, size, spacing)
            _write(phantom.image, phantom.affine, folder / "imagesTr" / f"{name}.nii.gz")
            _write(phantom.label, phantom.affine, folder / "labelsTr" / f"{name}.nii.gz")
            job.report("generating", index + 1, cases, unit="cases")
        write_json(folder / FILE, _description(names, seed, dims))
    return out


def _check_free(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise OutputError(f"{out}: is in use.", hint="Name a new or an empty folder.")


def _write(array: Any, affine: Any, path: Path) -> None:
    from medseg_nca.io.volume import Volume
    from medseg_nca.io.write import write_volume

    write_volume(Volume(array[None], affine), path)


def _description(names: list[str], seed: int, dims: int) -> dict[str, Any]:
    from medseg_nca.datasets.anatomy import LABELS

    return {
        "name": f"Phantom{dims}D",
        "description": "Procedural anatomy: an organ of two touching parts with a lesion",
        "reference": "medseg-nca data phantom",
        "licence": "CC0-1.0",
        "tensorImageSize": f"{dims}D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", **{str(value): name for value, name in LABELS.items()}},
        "numTraining": len(names),
        "numTest": 0,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in names
        ],
        "test": [],
        KEY: {"version": VERSION, "seed": seed, "dims": dims, "cases": len(names)},
    }
