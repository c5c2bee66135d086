"""A label map as the file that a client asked for: suffix, type of the numbers, packed or not."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg_nca.errors import ConfigError, DataError
from medseg_nca.inference.spec import ModelSpec
from medseg_nca.io.atomic import atomic_file
from medseg_nca.io.itk import to_itk
from medseg_nca.io.itk_file import write_itk_file
from medseg_nca.io.read import read_label
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.serving.jobs.records import JobOptions

EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".png", ".tif")
# What :func:`medseg_nca.io.write.write_volume` wrote in the first place, it would write once more.
_AS_IT_IS = (".nii.gz", ".nii", ".png", ".tif")
DTYPES = ("uint8", "uint16", "int16", "int32", "uint32", "float32")


def check_export(extension: str, dtype: str) -> None:
    """Refuse what cannot be written, before anything is computed.

    Raises:
        ConfigError: with what is allowed.
    """
    for name, value, allowed in (("result_extension", extension, EXTENSIONS),
                                 ("result_dtype", dtype, DTYPES)):  # fmt: skip
        if value and value not in allowed:
            raise ConfigError(f"{name} is {value[:40]!r}; it can be {', '.join(allowed)}.")


def write_label_file(label_map: Path, options: JobOptions, spec: ModelSpec) -> Path:
    """Write a label map once more, on the same grid, beside the first one.

    Of a DICOM series, NRRD has the voxels in the order in which ITK, 3D Slicer and OHIF read the
    series: OHIF's panel lays the numbers upon its image and does not look at the header.

    Args:
        label_map: the file that there is.
        options: what is asked for.
        spec: of the model; its labels name the segments of ``.seg.nrrd``.

    Raises:
        DataError: if the format cannot hold it.
        OutputError: if the disk refuses.
    """
    path = label_map.with_name(f"label{options.export}")
    same = label_map.name.partition(".")[2] == options.export[1:]
    if same and options.export in _AS_IT_IS and not options.export_dtype:
        return _second_name(label_map, path)
    volume = read_label(label_map)
    if options.export_dtype:
        array = volume.array.astype(options.export_dtype)
        if not np.array_equal(array, volume.array):
            raise DataError(f"The numbers of the labels do not fit into {options.export_dtype}.")
        volume = volume.with_array(array)
    if options.export in (".nrrd", ".seg.nrrd") and volume.dims == 3:
        if options.kind == "dicom":
            volume = _in_order_of_planes(volume)
        _write_nrrd(volume, path, spec, compress=options.export_compress)
    else:
        write_volume(volume, path)
    return path


def _second_name(file: Path, path: Path) -> Path:
    try:
        os.link(file, path)
    except OSError:  # a disk without links
        shutil.copyfile(file, path)
    return path


def _in_order_of_planes(volume: Volume) -> Volume:
    """Count the rows from the first to the last: see :mod:`medseg_nca.io.dicom.records`."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (volume.shape[1] - 1)
    affine[:3, 1] *= -1
    return replace(volume, array=volume.array[:, :, ::-1], affine=affine)


def _write_nrrd(volume: Volume, path: Path, spec: ModelSpec, *, compress: bool) -> None:
    import SimpleITK as sitk  # noqa: N813

    geometry = to_itk(volume.affine, volume.dims)
    array = volume.array[0]
    if array.dtype == np.int64:
        array = array.astype(np.min_scalar_type(int(array.max(initial=0))))
    image: Any = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))
    image.SetOrigin(geometry["origin"])
    image.SetSpacing(geometry["spacing"])
    image.SetDirection(geometry["direction"])
    if path.name.endswith(".seg.nrrd"):
        for key, value in _segments(volume, spec).items():
            image.SetMetaData(key, value)
    with atomic_file(path) as temporary:
        write_itk_file(image, temporary, compress=compress)


def _segments(volume: Volume, spec: ModelSpec) -> dict[str, str]:
    """What 3D Slicer reads of the segments in one layer (``.seg.nrrd``)."""
    extent = " ".join(f"0 {size - 1}" for size in volume.shape)
    found = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    for number, label in enumerate(spec.labels.labels):
        found |= {
            f"Segment{number}_ID": f"Segment_{label.written}",
            f"Segment{number}_Name": label.name,
            f"Segment{number}_LabelValue": str(label.written),
            f"Segment{number}_Layer": "0",
            f"Segment{number}_Extent": extent,
        }
    return found
