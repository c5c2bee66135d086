"""A data set of two blocks, and a model that reads the answer in the image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from medseg_nca.config import LabelTable, PreprocessPlan
from medseg_nca.config.model import (
    CellSettings,
    LevelSettings,
    NcaModelSettings,
    UpdateSettings,
)
from medseg_nca.config.training import EvaluationSettings
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.models import build_model
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.tasks.segmentation.evaluation import EvaluateSegmentation

SHAPE = (12, 11, 9)
AFFINE = np.array([[0, -1.5, 0, 3], [2, 0, 0, -1], [0, 0, 3, 7], [0, 0, 0, 1]], dtype=float)
QUICK = EvaluationSettings(bootstrap=20)


def table(values: Mapping[str, int]) -> LabelTable:
    return LabelTable.model_validate(
        {"labels": [{"name": name, "values": [value]} for name, value in values.items()]}
    )


def anatomy(shift: int = 0) -> np.ndarray:
    """Two touching blocks of 3x4x4 voxels."""
    found = np.zeros(SHAPE, dtype=np.uint8)
    found[2 + shift : 5 + shift, 3:7, 2:6] = 1
    found[5 + shift : 8 + shift, 3:7, 2:6] = 2
    return found


def data_set(
    folder: Path, cases: Mapping[str, int], names: Mapping[str, int] | None = None
) -> Path:
    """A Decathlon folder; the image of a case holds its truth, moved by that many voxels."""
    names = {"Front": 1, "Back": 2} if names is None else names
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case, shift in cases.items():
        noise = np.random.default_rng(len(case)).uniform(-0.3, 0.3, SHAPE)
        image = (anatomy(shift) + noise).astype(np.float32)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f"imagesTr/{case}.nii.gz")
        nib.save(nib.Nifti1Image(anatomy(), AFFINE), folder / f"labelsTr/{case}.nii.gz")
    tree = {
        "name": "blocks <b>", "tensorImageSize": "3D", "modality": {"0": "MRI"},
        "labels": {"0": "background", **{str(v): n for n, v in names.items()}},
        "training": [
            {"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in cases
        ],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(tree))
    return folder


def bundle(folder: Path, labels: Mapping[str, int] | None = None) -> LoadedModel:
    """A model that rounds the image, whose values lie about 0, 1 and 2: the answer is in it.

    In its only step, one unit passes ``relu(x + 1)`` on to a hidden channel ``h``. The logit of the
    label ``k`` is ``2 k (h - 1) - k^2``, which is largest for the ``k`` that is nearest to ``x``.
    """
    settings = NcaModelSettings(
        name="backbone_nca", dims=3, in_channels=1, out_channels=3, head="linear",
        cell=CellSettings(channels=6, fire_rate=1, update=UpdateSettings(norm="none")),
        levels=(LevelSettings(steps=1),),
    )  # fmt: skip
    plan = PreprocessPlan(dims=3, channels=("MRI",), crop_size=(8, 8, 8), normalise="none")
    spec = ModelSpec(
        name="tiny", model=settings, labels=table(labels or {"front": 1, "back": 2}), plan=plan
    )
    model = build_model(settings)
    assert isinstance(model, MultiLevelNca)
    rule, (head,) = model.cell(0).update, model.heads[0].layers
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        rule.hidden.weight[0, 0] = rule.hidden.bias[0] = rule.output.weight[0, 0] = 1
        for label in range(3):
            head.weight[label, 0], head.bias[label] = 2 * label, -(label**2) - 2 * label
    save_bundle(folder, model, spec)
    return load_bundle(folder, "cpu")


def request(model: LoadedModel, data: Path, out: Path, **more: Any) -> EvaluateSegmentation:
    """An evaluation without figures, which take longest; ``test_files`` has them."""
    return EvaluateSegmentation(model, data, out, settings=QUICK, **{"figures": False, **more})


CASES = {"c0": 0, "c1": 1, "c2": 2, "c3": 3}
