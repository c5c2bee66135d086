"""A real case as a DICOM series, its true labels as every DICOM object, checked by all tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg_nca.config import LabelTable
from medseg_nca.io.dicom.annotations.rtstruct import read_rtstruct
from medseg_nca.io.dicom.annotations.seg import read_seg
from medseg_nca.io.dicom.check.run import check_files
from medseg_nca.io.dicom.objects.export import write_series
from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.read import read_label, read_volume
from medseg_nca.io.segmentation import Segmentation
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_result, write_results
from tests.io.writers import results


def _onto(volume: Volume, grid: Volume) -> Volume:
    """A label map in the array order of another volume on the same voxels."""
    order = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.io_orientation(grid.affine)
    )
    image = nib.Nifti1Image(volume.array[0].astype(np.uint8), volume.affine).as_reoriented(order)
    return Volume(np.asarray(image.dataobj)[np.newaxis], image.affine)


@pytest.mark.slow
def test_a_hippocampus(
    tmp_path: Path, repository: Path, shared_data: Callable[[str], Path]
) -> None:
    data = shared_data("Task04_Hippocampus")
    file = sorted((data / "imagesTr").glob("hippocampus_*.nii.gz"))[0]
    original = read_volume(file)
    write_series(original, tmp_path / "series")
    image = read_dicom([tmp_path / "series"])
    truth = _onto(read_label(data / "labelsTr" / file.name), image)
    assert (_onto(original, image).array == image.array.astype(np.uint8)).all()
    spec = json.loads((repository / "medseg_nca/zoo/hippocampus/model.json").read_text())
    table = LabelTable.model_validate(spec["labels"])
    segmentation = Segmentation(truth, table, image, results.ALGORITHM, quality={"spread": 0.1})

    written = write_results(
        segmentation, tmp_path / "case", ["dicom-seg", "rtstruct", "sr", "sc", "nifti"]
    )
    for read, name in ((read_seg, "dicom-seg"), (read_rtstruct, "rtstruct")):
        for segment in read(written[name], image).segments:
            assert (segment.mask == (truth.array[0] == segment.number)).all()
            assert segment.code == results.HIPPOCAMPUS
    label_map = write_result(segmentation, tmp_path / "map", "dicom-seg", seg_type="labelmap")
    objects = [p for p in (*written.values(), label_map) if p.suffix == ".dcm"]
    assert len(objects) == 5
    for result in check_files([*objects, *image.sources])[: len(objects)]:
        assert not result.errors
