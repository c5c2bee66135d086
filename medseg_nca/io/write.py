"""Write images and label maps, and whole results, in any format of ``medseg_nca/io/writers``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import atomic_file
from medseg_nca.io.formats import image_suffix
from medseg_nca.io.integers import holding
from medseg_nca.io.segmentation import Segmentation
from medseg_nca.io.slices import Slices
from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import ResultWriter, Writer
from medseg_nca.registry import PluginRegistry
from medseg_nca.suggest import unknown

WRITERS = PluginRegistry(
    "medseg_nca.io.writers",
    "medseg_nca.writers",
    "WRITER",
    "output format",
    fits=lambda found: isinstance(found, Writer | ResultWriter),
    error=OutputError,
)
# The modules that write suffixes which differ from the module's name.
_MODULES = {".nii.gz": "nifti", ".nii": "nifti", ".tif": "tiff"}


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume, whole or not at all; the format is told by the name, the folder is created.

    A volume that was read from a file of the same format gets that file's header back. Integers
    are stored in the smallest type that holds them, so label maps keep their numbers.

    Raises:
        OutputError: if the format is unknown or cannot hold the volume, or the disk refuses.
    """
    path = Path(path)
    _write(volume, path, _writer(path))


def _write(volume: Volume, path: Path, writer: Writer) -> None:
    if volume.dims not in writer.dims:
        raise OutputError(
            f"{path}: {path.suffix} files cannot hold an image of {volume.dims} axes.",
            hint="Use .nii.gz, .nrrd or .mha.",
        )
    with atomic_file(path) as temporary:
        writer.write(_compact(volume), temporary)


def write_slices(slices: Slices, path: Path) -> None:
    """Write a volume that comes slice by slice as NIfTI; the file is as :func:`write_volume`'s.

    Raises:
        OutputError: if the disk refuses. Errors of the slices come through.
    """
    from medseg_nca.io.writers.nifti import write_sliced

    with atomic_file(Path(path)) as temporary:
        write_sliced(slices, temporary)


def result_formats() -> tuple[str, ...]:
    """Return the names of the formats that a result can be written in, sorted."""
    return tuple(sorted(_writer_names()))


def suffix_of(format: str) -> str:
    """The suffix of files of a format of results, ``.seg.dcm`` for dicom-seg.

    Raises:
        OutputError: if the format is unknown.
    """
    return _result_writer(format).suffix


def dims_of(format: str) -> tuple[int, ...]:
    """The numbers of axes that a format of results can hold.

    Raises:
        OutputError: if the format is unknown.
    """
    writer = _result_writer(format)
    return writer.dims if isinstance(writer, Writer) else (2, 3)


def needs_dicom(format: str) -> bool:
    """Tell whether a format is only for images that came from DICOM.

    Raises:
        OutputError: if the format is unknown.
    """
    writer = _result_writer(format)
    return isinstance(writer, ResultWriter) and writer.needs_dicom


def write_result(segmentation: Segmentation, path_stem: Path, format: str, **options: Any) -> Path:
    """Write a result in one format, whole or not at all; the folder is created.

    Args:
        segmentation: the result.
        path_stem: the path without a suffix, which the format adds (``.nii.gz``, ``.seg.dcm``).
        format: a name of :func:`result_formats`.
        **options: of the format: ``seg_type`` for dicom-seg (``binary``, ``fractional``,
            ``labelmap``), ``seg_file`` for sr (the DICOM SEG that it measures).

    Returns:
        The path of the new file.

    Raises:
        OutputError: if the format or an option is unknown, the format cannot hold the result, or
            the disk refuses.
    """
    writer = _result_writer(format)
    path_stem = Path(path_stem)
    path = path_stem.with_name(path_stem.name + writer.suffix)
    if isinstance(writer, Writer):
        _check_options(format, options, ())
        _write(segmentation.label_map, path, writer)
        return path
    _check_options(format, options, writer.options)
    with atomic_file(path) as temporary:
        writer.write(segmentation, temporary, **options)
    return path


def write_results(
    segmentation: Segmentation, path_stem: Path, formats: Sequence[str], *, seg_type: str = "binary"
) -> dict[str, Path]:
    """Write a result in several formats; a report (sr) refers to the DICOM SEG written with it.

    Returns:
        The new files by format.

    Raises:
        OutputError: as :func:`write_result`; unknown formats are found before anything is written.
    """
    for name in formats:
        _result_writer(name)
    written: dict[str, Path] = {}
    for name in sorted(dict.fromkeys(formats), key=lambda name: name != "dicom-seg"):
        options: dict[str, Any] = {}
        if name == "dicom-seg":
            options["seg_type"] = seg_type
        if name == "sr" and "dicom-seg" in written:
            options["seg_file"] = written["dicom-seg"]
        written[name] = write_result(segmentation, path_stem, name, **options)
    return {name: written[name] for name in formats}


def _writer_names() -> dict[str, str]:
    """The registered name of each format of results; formats have hyphens, modules underscores."""
    return {name.replace("_", "-"): name for name in WRITERS.names}


def _result_writer(format: str) -> Writer | ResultWriter:
    formats = _writer_names()
    if format not in formats:
        raise OutputError(unknown("output format", format, formats))
    writer: Writer | ResultWriter = WRITERS.get(formats[format])
    return writer


def _check_options(format: str, options: dict[str, Any], allowed: Sequence[str]) -> None:
    strange = sorted(set(options) - set(allowed))
    if strange:
        raise OutputError(
            f"Output format {format} has no option {', '.join(strange)}.",
            hint=f"It has {', '.join(allowed)}." if allowed else "It has none.",
        )


def _writer(path: Path) -> Writer:
    suffix = image_suffix(path) or "".join(path.suffixes[-1:])
    writer = WRITERS.get(_MODULES.get(suffix, suffix.removeprefix(".")))
    if not isinstance(writer, Writer):
        raise OutputError(f"{path}: {suffix} is no image format.", hint="Use .nii.gz or .nrrd.")
    return writer


def _compact(volume: Volume) -> Volume:
    """Labels in the smallest integer type, reals in at most 32 bits."""
    array = volume.array
    if array.dtype.kind == "b":
        return volume.with_array(array.astype(np.uint8))
    if array.dtype == np.float16 or array.dtype == np.float64:
        return volume.with_array(array.astype(np.float32))
    if array.dtype.kind not in "iu" or array.dtype.itemsize == 1:
        return volume
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for kind in holding(low, high):
        return volume.with_array(array.astype(kind, copy=False))
    return volume
