"""Open a data set: its layout is found by looking, or named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol, runtime_checkable

from medseg_nca.datasets.base import DataSet
from medseg_nca.errors import DataError
from medseg_nca.registry import PluginRegistry

SHOWN = 5

log = logging.getLogger(__name__)


@runtime_checkable
class Adapter(Protocol):
    """One layout: ``datasets/adapters/<name>.py`` defines one as ``ADAPTER``.

    Attributes:
        layout: one line that says what such a data set looks like.
        rank: the adapter with the lowest is asked first whether it recognises a data set. The more
            telling a layout is, the lower: an nnU-Net folder also has a dataset.json, and so on.
    """

    layout: str
    rank: float

    def recognises(self, path: Path) -> bool:
        """Whether the file or folder looks like this layout. Cheap; raises nothing."""

    def open(self, path: Path) -> DataSet:
        """List the cases; whether their files exist is not looked at here.

        Raises:
            DataError: if the data set is not what its layout asks for.
        """


ADAPTERS = PluginRegistry(
    "medseg_nca.datasets.adapters",
    "medseg_nca.adapters",
    "ADAPTER",
    "data format",
    fits=lambda found: isinstance(found, Adapter) and isinstance(found.rank, int | float),
    error=DataError,
)


def adapters() -> dict[str, Adapter]:
    """The adapters by name, in the order in which they are asked; broken ones are left out."""
    found: list[tuple[str, Adapter]] = list(ADAPTERS.usable())
    return dict(sorted(found, key=lambda entry: (entry[1].rank, entry[0])))


def get_adapter(name: str) -> Adapter:
    """Return the adapter of a layout.

    Raises:
        DataError: if there is no layout of that name.
    """
    adapter: Adapter = ADAPTERS.get(name)
    return adapter


def find_format(path: Path) -> str | None:
    """Return the name of the first layout that recognises ``path``, None if none does."""
    return next((name for name in adapters() if _recognises(name, path)), None)


def _recognises(name: str, path: Path) -> bool:
    """Ask an adapter; one of another package that fails is left out with a warning."""
    try:
        return get_adapter(name).recognises(path)
    except Exception as error:
        if name in ADAPTERS.own_names:
            raise
        log.warning("%s", ADAPTERS.others.find(name).broken(f"{type(error).__name__}: {error}"))
        return False


def open_dataset(path: Path | str, format: str = "auto", *, check_files: bool = True) -> DataSet:
    """Open a data set.

    Args:
        path: its folder, or a datalist file.
        format: a layout's name, or "auto" to find it by looking.
        check_files: refuse a data set that names files that are not there.

    Raises:
        DataError: if the path is missing or empty, the layout is not known, there is no case, or
            a file is missing.
    """
    path = Path(path)
    _check_path(path)
    name = format
    if format == "auto":
        found = find_format(path)
        if found is None:
            raise _unrecognised(path)
        name = found
    dataset = get_adapter(name).open(path)
    if not dataset.cases:
        raise DataError(f"{path}: there is no case in it (layout {name}).")
    if check_files:
        _check_files(dataset)
    return dataset


def missing_files(dataset: DataSet) -> dict[str, list[Path]]:
    """Return the files that a case names and that do not exist, by case id."""
    absent = {
        case.id: [file for file in (*case.images, case.label) if file and not file.is_file()]
        for case in dataset.cases
    }
    return {name: files for name, files in absent.items() if files}


def _check_path(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path}: there is no such folder.", hint="Check the path of the data set.")
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(
            f"{path}: the folder is empty.",
            hint="Put a data set there, or make one: `medseg-nca data phantom OUT`.",
        )


def _check_files(dataset: DataSet) -> None:
    files = [file for group in missing_files(dataset).values() for file in group]
    if files:
        shown = ", ".join(str(file) for file in files[:SHOWN])
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        raise DataError(
            f"{dataset.root}: {len(files)} file(s) are missing: {shown}{more}.",
            hint=f"See everything that is wrong: medseg-nca data check {dataset.root}",
        )


def _unrecognised(path: Path) -> DataError:
    layouts = "; ".join(f"{name}: {adapter.layout}" for name, adapter in adapters().items())
    message = f"{path}: is not a data set in a known layout. Known: {layouts}."
    inner = sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
    close = next((folder for folder in inner if find_format(folder)), None)
    hint = f"Did you mean {close}?" if close else "Name the layout with data.format, or convert it."
    if (path / "prepared.json").is_file():
        hint = "It was prepared for training: name the folder that it was prepared from."
    return DataError(message, hint=hint)
