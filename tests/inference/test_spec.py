"""``model.json`` holds a model, and nothing of the machine that trained it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.model import NcaModelSettings
from medseg_nca.inference.bundle import load_bundle, save_bundle, save_ensemble
from medseg_nca.inference.ensemble import join_specs
from medseg_nca.inference.spec import SPEC, ModelSpec, read_spec
from medseg_nca.models import build_model
from medseg_nca.nca.engines import get_engine

LABELS = LabelTable(labels=(Label(name="a", values=(1,)),))
PLAN = PreprocessPlan(dims=2, channels=("MR",), crop_size=(8, 8))
MACHINE = {"engine": "no_such_engine", "checkpoint": 4}


def saved(folder: Path, seed: int = 0) -> Path:
    settings = NcaModelSettings(
        name="own", dims=2, in_channels=1, out_channels=2, engine="reference", checkpoint=2
    )
    torch.manual_seed(seed)
    save_bundle(folder, build_model(settings), ModelSpec(
        name="m", model=settings, labels=LABELS, plan=PLAN, seed=seed))  # fmt: skip
    return folder


def model_of(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    return tree["model"]


def as_before(folder: Path) -> Path:
    """The file as it was written when it held what belongs to the machine."""
    tree = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    tree["model"] |= MACHINE
    (folder / SPEC).write_text(json.dumps(tree), encoding="utf-8")
    return folder


def test_what_belongs_to_the_machine_is_not_written(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one")
    assert not MACHINE.keys() & model_of(folder).keys()
    loaded = load_bundle(folder, "cpu")
    assert loaded.model.engine is get_engine("auto")
    assert isinstance(loaded.spec.model, NcaModelSettings)
    assert loaded.spec.model.checkpoint is None


@pytest.mark.parametrize("members", [1, 2])
def test_older_files_are_read_and_mean_the_same(tmp_path: Path, members: int) -> None:
    folder = saved(tmp_path / "one")
    if members == 2:
        loaded = {name: load_bundle(saved(tmp_path / name, seed), "cpu")
                  for seed, name in enumerate("ab")}  # fmt: skip
        folder = tmp_path / "both"
        save_ensemble(folder, [one.model for one in loaded.values()], join_specs(loaded))
        assert not MACHINE.keys() & model_of(folder).keys()
    spec = read_spec(folder)
    assert spec.format_version == members
    assert read_spec(as_before(folder)) == spec
    load_bundle(folder, "cpu")
