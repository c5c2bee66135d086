"""Images in another world than the training's, and label maps whose spacing changes.

The inputs are those of the shared data's ``faults`` folder; the kinds are tested without it in
``tests/transforms`` and ``tests/inference``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.io.read import read_label, read_volume
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.transforms.prepare import prepare
from medseg_nca.transforms.resample import Mapping, resample
from tests.cli.runner import run

SharedData = Callable[[str], Path]


def test_an_image_of_another_spacing(shared_data: SharedData, tmp_path: Path) -> None:
    folder = shared_data("faults") / "images" / "02-other-spacing-than-training"
    names = ["hippocampus_1mm.nii.gz", "hippocampus_2.0mm.nii.gz"]
    files = [folder / name for name in names]
    result = run("predict", "--model", "zoo:hippocampus", "--out", tmp_path, *files)
    assert result.exit_code == 0, result.output
    image = "1 of 2 images (hippocampus_2.0mm.nii.gz)"
    assert f"{image}: spacing 2 x 2 x 2 mm brought to 1 x 1 x 1 mm" in result.output
    assert f"{image} are unlike the images that the model learned from" in result.output
    entries = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert [entry["training"]["brought"] is None for entry in entries] == [True, False]
    assert entries[1]["training"]["spacing"] == [1, 1, 1]
    # mL of each label: the truth has 1.37 and 1.58. The coarse file has dark borders, which no
    # image of the training has, and a fifth to a quarter is lost in them: hence the warning.
    found = [np.array(list(entry["voxels"].values())) / 1000 for entry in entries]
    np.testing.assert_allclose(found[0], [1.37, 1.58], rtol=0.15)
    np.testing.assert_allclose(found[1] * 8, [1.37, 1.58], rtol=0.3)


def test_an_image_of_half_the_spacing(shared_data: SharedData, tmp_path: Path) -> None:
    """As good as the image itself, where it lost a third of its Dice."""
    folder = shared_data("faults") / "images" / "02-other-spacing-than-training"
    image, truth = (read_volume(folder / f"{n}_1mm.nii.gz") for n in ("hippocampus", "truth"))
    fine = Mapping((0.5,) * 3, (-0.25,) * 3, tuple(2 * n for n in image.shape))
    affine = image.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] -= image.affine[:3, :3] @ (0.25, 0.25, 0.25)
    write_volume(Volume(resample(image.array, fine), affine), tmp_path / "fine.nii.gz")
    result = run("predict", "--model", "zoo:hippocampus", "--out", tmp_path / "out",
                 tmp_path / "fine.nii.gz")  # fmt: skip
    assert result.exit_code == 0, result.output
    found = read_label(tmp_path / "out" / "fine.nii.gz").array[0]
    there = np.kron(truth.array[0], np.ones((2, 2, 2)))
    for value in (1, 2):
        both = ((found == value) & (there == value)).sum()
        assert 2 * both / ((found == value).sum() + (there == value).sum()) > 0.85


def test_a_cube_that_is_brought_to_a_finer_spacing(shared_data: SharedData) -> None:
    folder = shared_data("faults") / "images" / "15-upsampled-label-shrinks"
    for image in sorted((folder / "images").glob("*.nii.gz")):
        label = folder / "labels" / image.name.replace("_0000", "")
        volume, truth = read_volume(image), read_label(label)
        values = [int(v) for v in np.unique(truth.array) if v]
        table = LabelTable(labels=tuple(Label(name=str(v), values=(v,)) for v in values))
        plan = PreprocessPlan(dims=3, channels=("MR",), crop_size=(8,) * 3, spacing=(0.5,) * 3)
        found = prepare(volume, plan, truth, table).label
        assert found is not None
        for channel, value in enumerate(values, start=1):
            before = (truth.array == value).sum() * np.prod(volume.spacing)
            after = (found == channel).sum() * 0.125
            assert abs(after / before - 1) < 0.005, (image.name, value)
