"""A tiny untrained model and an empty store, for the tests of tracking and of its commands."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from medseg_nca.config import Label, LabelTable, PreprocessPlan, RunSettings
from medseg_nca.config.loading import load_settings, to_yaml
from medseg_nca.config.model import (
    CellSettings,
    LevelSettings,
    NcaModelSettings,
    UpdateSettings,
)
from medseg_nca.config.training import TrackingSettings
from medseg_nca.inference.bundle import ModelSpec, save_bundle
from medseg_nca.models import build_model
from medseg_nca.tracking.store import connect, store_uri

LABELS = LabelTable(labels=(Label(name="anterior", values=(1,)), Label(name="post", values=(2,))))


def save_tiny(folder: Path, *, dims: Any = 3, channels: int = 1, seed: int = 0) -> ModelSpec:
    """Write the two data files of an untrained automaton whose weights are not zero."""
    torch.manual_seed(seed)
    settings = NcaModelSettings(
        name="backbone_nca",
        dims=dims,
        in_channels=channels,
        out_channels=LABELS.channels,
        cell=CellSettings(channels=8, update=UpdateSettings(hidden=8)),
        levels=(LevelSettings(steps=4),),
    )
    model = build_model(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    plan = PreprocessPlan(
        dims=dims,
        channels=tuple(f"channel_{n}" for n in range(channels)),
        spacing=(1.5,) * dims,
        crop_size=(12,) * dims,
    )
    spec = ModelSpec(
        name="tiny",
        model=settings,
        labels=LABELS,
        plan=plan,
        training_data="phantom",
        training_data_hash="d" * 64,
        metrics={"mean_dice": 0.5},
    )
    return save_bundle(folder, model, spec)


def make_run(folder: Path, **how: Any) -> ModelSpec:
    """A run folder as far as the registry looks at it: settings and a model."""
    spec = save_tiny(folder / "model", **how)
    (folder / "settings.yaml").write_text(to_yaml(load_settings(None)), encoding="utf-8")
    return spec


def evaluate(folder: Path, spec: ModelSpec, dice: float | None = 0.81) -> Path:
    """Write what the tests need of an evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = {
        "mean_dice": dice,
        "model": {"weights_sha256": spec.weights_sha256},
        "split": {"name": "test"},
        "data": {"name": "phantom"},
    }
    (folder / "metrics.json").write_text(json.dumps(tree), encoding="utf-8")
    return folder


def new_store(folder: Path) -> TrackingSettings:
    """An empty SQLite store in a folder: a copy, because making one takes seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_empty_store(), folder / "mlflow.db")
    return TrackingSettings(uri=f"sqlite:///{folder / 'mlflow.db'}", system_metrics=False)


@cache
def _empty_store() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="medseg_nca_test_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    connect(store_uri(str(folder / "mlflow.db")), create=True)
    return folder / "mlflow.db"


def settings_of(folder: Path, **tracking: Any) -> RunSettings:
    """Settings of a run that is tracked in a new store in ``folder/store``."""
    changed = new_store(folder / "store").model_copy(update=tracking)
    named = load_settings(None, ["training.lr=2e-3", "model.cell.channels=16"])
    return named.model_copy(update={"name": "first", "tracking": changed})
