"""MONAI's losses, configured for soft one-hot targets."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from medseg_nca.errors import ConfigError
from medseg_nca.registry import Entries
from medseg_nca.suggest import unknown

# Name of the loss -> class in monai.losses.
LOSSES: dict[str, str] = {
    "dice": "DiceLoss",
    "dice_ce": "DiceCELoss",
    "dice_focal": "DiceFocalLoss",
    "generalized_dice": "GeneralizedDiceLoss",
    "tversky": "TverskyLoss",
    "focal": "FocalLoss",
}

# Losses of other packages: ``build(multi_label=..., **params)`` returns a module that takes logits
# and targets ``(B, K, *spatial)``.
_OTHERS = Entries("medseg_nca.losses", "loss")

# Dice is computed over the whole batch because a single patch may hold no voxel of a label. The
# background is left out because it is already known from the labels.
_DEFAULTS: dict[str, Any] = {"batch": True, "smooth_nr": 1e-5, "smooth_dr": 1e-5}


class DiceBCELoss(nn.Module):
    """Dice plus binary cross entropy for labels that may overlap.

    MONAI's DiceCELoss has a softmax in its cross entropy as soon as there are two channels.
    """

    def __init__(self, lambda_dice: float = 1.0, lambda_ce: float = 1.0, **dice: Any) -> None:
        super().__init__()
        from monai.losses import DiceLoss

        self.dice = DiceLoss(**dice)
        self.cross_entropy = nn.BCEWithLogitsLoss()
        self.lambda_dice, self.lambda_ce = lambda_dice, lambda_ce

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(B, K, *spatial)`` logits."""
        cross_entropy = self.cross_entropy(logits, target)
        return self.lambda_dice * self.dice(logits, target) + self.lambda_ce * cross_entropy  # type: ignore[no-any-return]


def loss_names() -> tuple[str, ...]:
    """The names that :func:`create_loss` takes, sorted."""
    return tuple(sorted({*LOSSES, *_OTHERS.names}))


def create_loss(name: str, *, multi_label: bool, **params: Any) -> nn.Module:
    """Return a loss over logits ``(B, K, *spatial)`` and targets of the same shape in [0, 1].

    Labels that exclude each other get a softmax, labels that may overlap a sigmoid.

    Raises:
        ConfigError: for an unknown loss or parameter.
        PluginError: if the loss is another package's and cannot be used.
    """
    if name not in loss_names():
        raise ConfigError(unknown("loss", name, loss_names()))
    if name not in LOSSES:
        return _create_other(name, multi_label, params)
    from monai import losses

    _OTHERS.warn_if_hidden(name)
    kind: Any = getattr(losses, LOSSES[name])
    known = inspect.signature(kind).parameters
    _check_params(name, params, known)
    defaults = {key: value for key, value in _DEFAULTS.items() if key in known}
    if name == "focal":
        defaults["use_softmax"] = not multi_label
    else:
        defaults |= {"sigmoid": multi_label, "softmax": not multi_label}
        defaults["include_background"] = multi_label
    if name == "dice_ce" and multi_label:
        kind = DiceBCELoss
    return kind(**{**defaults, **params})  # type: ignore[no-any-return]


def _create_other(name: str, multi_label: bool, params: Mapping[str, Any]) -> nn.Module:
    entry = _OTHERS.find(name)
    build = entry.load("build")
    if not callable(build):
        raise entry.broken(f"a {type(build).__name__} builds no loss")
    _check_params(name, params, set(inspect.signature(build).parameters) - {"multi_label"})
    loss = build(multi_label=multi_label, **params)
    if not isinstance(loss, nn.Module):
        raise entry.broken(f"it builds a {type(loss).__name__}, not a torch module")
    return loss


def _check_params(name: str, params: Mapping[str, Any], known: Collection[str]) -> None:
    for key in params:
        if key not in known:
            raise ConfigError(unknown(f"parameter of loss {name!r}", key, known))
