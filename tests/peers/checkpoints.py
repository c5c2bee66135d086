"""Checkpoints that the textbook modules write, and the import of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg_nca.inference.bundle import load_bundle
from medseg_nca.models import RunOptions
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca.fire import Fire, mix
from medseg_nca.peers.answers import PeerAnswers
from medseg_nca.pipelines.import_model import ImportedModel, PeerImport, run
from tests.peers.textbook import Masks

SEED = 11


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and statistic a value that matters."""
    torch.manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dtype.is_floating_point:
            with torch.no_grad():
                tensor.normal_(std=0.25)
                if "running_var" in name or name.endswith("bn.weight"):
                    tensor.abs_().add_(0.5)
    return module


def saved(module: nn.Module, path: Path) -> Path:
    torch.save(module.state_dict(), path)
    return path


def answers(dims: int, **more: Any) -> PeerAnswers:
    """Everything that every family asks for."""
    said: dict[str, Any] = {
        "channels": ("MR",), "labels": ("organ",), "axes": "xyz"[:dims], "steps": (3,),
        "fire_rate": 0.4, "size": (16,) * dims, "spacing": (1.0,) * dims,
        "normalise": "percentile",
    }  # fmt: skip
    return PeerAnswers(**(said | more))


def imported(
    family: str, files: list[Path], out: Path, said: PeerAnswers, **more: Any
) -> ImportedModel:
    return run(PeerImport(family, tuple(files), out, said, **more))


def logits_of(folder: Path, image: Tensor) -> Tensor:
    """What the imported model makes of an image ``(B, images, *spatial)`` in this package."""
    model = load_bundle(folder, "cpu").model.to(image.dtype)
    with torch.inference_mode():
        return model(image, RunOptions(seed=SEED))


def masks_of(folder: Path, batch: int) -> Callable[[int, tuple[int, ...]], Masks]:
    """The fire masks of the imported model, as a textbook module takes them."""
    model = load_bundle(folder, "cpu").model
    assert isinstance(model, MultiLevelNca)
    rate = model.settings.cell.fire_rate

    def level_masks(level: int, shape: tuple[int, ...]) -> Masks:
        fire = Fire.for_batch(rate, mix(SEED, level), batch)
        places = fire.positions(shape, torch.device("cpu"))
        return lambda step: fire.mask(places, step)

    return level_masks
