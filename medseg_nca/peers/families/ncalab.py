"""NCALab (TU Darmstadt), 2D: one safetensors file of a segmentation model, one level.

The state is ``[image | hidden | logits]``, channels first. Filters follow each other filter by
filter, so that the columns of the first layer have another order than here. Files of versions that
do not register the learned filters lack them, and cannot be told from those with Sobel filters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medseg_nca.config.model import PerceptionSettings, UpdateSettings
from medseg_nca.errors import CheckpointError, ConfigError, ModelError
from medseg_nca.peers.answers import ALWAYS, PeerAnswers
from medseg_nca.peers.automaton import assemble, check_axes, entry, named
from medseg_nca.peers.cells import Level, PeerCell, turned_filters
from medseg_nca.peers.checkpoint import PeerFile
from medseg_nca.peers.families.base import Converted, Family

_FILTER = re.compile(r"perception\.filters\.(\d{1,2})\.weight")
_FIRST, _BIAS, _LAST = "rule.network.0.weight", "rule.network.0.bias", "rule.network.2.weight"
_PADDINGS = {"reflect": "reflect", "circular": "circular", "zeros": "zero"}
# Settings of the published model that are not computed here, with the value that they must have.
_REFUSED = {
    "use_alive_mask": "living cells",
    "pad_noise": "a start from noise",
    "use_laplace": "the Laplace filter, which its versions define differently",
    "use_temporal_encoding": "the temporal encoding",
}
_ASSUMED = (
    "no living cells, no start from noise and immutable image channels, as its "
    "BinarySegmentationNCAModel has them",
    "ReLU in the rule, the default of its MLPNCARule",
)


class _NcaLab(Family):
    title = "NCALab"
    source = "MECLabTUDA/NCALab"

    def recognises(self, files: Sequence[PeerFile]) -> bool:
        """See :meth:`Family.recognises`: a rule that is a network of convolutions."""
        return any(
            name.startswith(("rule.network.", "network.", "wrapped.", "backbone.rule"))
            for file in files
            for name in file.tensors
        )

    def asks(self, files: Sequence[PeerFile]) -> Mapping[str, str]:
        """See :meth:`Family.asks`."""
        asked = {
            **ALWAYS,
            "channels": "num_image_channels says how many",
            "labels": "num_output_channels says how many",
            "axes": "nowhere: as the data loader gives images, pictures usually rows first",
            "steps": "inference_timesteps, 100 by default",
            "fire_rate": "fire_rate",
            "size": "nowhere",
            "spacing": "nowhere",
        }
        if _filters(files):
            return {**asked, "padding": "filter_padding"}
        return {**asked, "filters": "num_learned_filters, 0 is sobel"}

    def published(self, tree: Any, axes: str | None) -> PeerAnswers:
        """See :meth:`Family.published`: what ``to_dict()`` of a model returns."""
        if not isinstance(tree, Mapping):
            raise ModelError(
                "--settings: an object of settings is needed, as to_dict() returns it."
            )
        for key, what in _REFUSED.items():
            if tree.get(key):
                raise ModelError(f"--settings: {key} is set; {what} cannot be computed here.")
        steps = tree.get("inference_timesteps")
        if steps is not None and (type(steps) is not int or steps < 1):
            raise ModelError(
                f"--settings: inference_timesteps is {str(steps)[:40]}; a range is drawn from at "
                "random, also in predictions.",
                hint="Leave it out of the file and give --steps.",
            )
        rate = entry(tree, "fire_rate", (int, float))
        padding = entry(tree, "filter_padding", str)
        learned = entry(tree, "num_learned_filters", int)
        return PeerAnswers(
            channels=named("image", entry(tree, "num_image_channels", int)),
            labels=named("label", entry(tree, "num_output_channels", int)),
            steps=None if steps is None else (steps,),
            fire_rate=float(rate) if isinstance(rate, int | float) else None,
            padding=padding if isinstance(padding, str) else None,
            filters=None if learned is None else "learned" if learned else "sobel",
        )

    def convert(self, files: Sequence[PeerFile], answers: PeerAnswers) -> Converted:
        """See :meth:`Family.convert`."""
        if len(files) != 1:
            raise CheckpointError(f"{len(files)} files are given; NCALab writes one for a model.")
        file = files[0]
        _refuse(file)
        images, logits = len(answers.get("channels")), len(answers.get("labels"))
        cell = _cell(Level(file.name, file.tensors), answers, images, logits)
        answers = PeerAnswers(scales=((1,),)).over(answers)
        return assemble("ncalab", [cell], [file.name], answers, shrink="mean", assumed=_ASSUMED)


def _filters(files: Sequence[PeerFile]) -> list[str]:
    return sorted(
        (name for file in files for name in file.tensors if _FILTER.fullmatch(name)),
        key=lambda name: int(name.split(".")[2]),
    )


def _refuse(file: PeerFile) -> None:
    """Name the kinds of model that are not computed here."""
    for prefix, what in (
        ("network.", "was written by an early NCALab, whose rule and fire rate differ"),
        ("wrapped.", "is a cascade, which draws its numbers of steps at random"),
        ("backbone.", "is a cascade, which draws its numbers of steps at random"),
        ("head.", "has a head for a task other than segmentation"),
    ):
        if any(name.startswith(prefix) for name in file.tensors):
            raise ModelError(f"{file.name}: {what}, and cannot be computed here exactly.")


def _cell(level: Level, answers: PeerAnswers, images: int, logits: int) -> PeerCell:
    found = [name for name in level.tensors if _FILTER.fullmatch(name)]
    names = [f"perception.filters.{number}.weight" for number in range(len(found))]
    level.check_names((_FIRST, _BIAS, _LAST, *names))
    hidden = level.take(_BIAS, None).shape[0]
    w1 = level.take(_LAST, None, hidden, 1, 1).flatten(1)
    channels = len(w1)
    count = len(names) or _fixed(level, answers, channels)
    if level.shape(_FIRST)[1:2] == (channels * (count + 1) + 1,):
        raise ModelError(f"{level.where}: has the temporal encoding, which is not computed here.")
    w0 = level.take(_FIRST, hidden, channels * (count + 1), 1, 1).flatten(1)
    if images + logits > channels:
        raise ConfigError(
            f"--channels names {images} and --labels {logits}; the state has {channels} channels."
        )
    # Ours is [image | logits | hidden].
    first = channels - logits
    order = torch.tensor([*range(images), *range(first, channels), *range(images, first)])
    axes = check_axes(answers, 2)
    perception, bank = _perception(level, names, answers, axes)
    if names:
        which = list(range(count))
        tensors = {"perception.weight": bank[order].flatten(0, 1).unsqueeze(1)}
    else:
        # The first published filter derives along the last axis of the array, ours along x.
        which, tensors = [0 if letter == axes[1] else 1 for letter in "xy"], {}
    tensors |= {
        "update.hidden.weight": _columns(w0, channels, which, order),
        "update.hidden.bias": level.take(_BIAS, hidden),
        "update.output.weight": w1[order],
    }
    update = UpdateSettings(hidden=hidden, update_image=True)
    return PeerCell(2, channels, perception, update, tensors, opposite=False)


def _perception(
    level: Level, names: Sequence[str], answers: PeerAnswers, axes: str
) -> tuple[PerceptionSettings, Tensor]:
    """The settings, and learned filters ``(channels, filters, x, y)``; none for Sobel's."""
    if not names:
        return PerceptionSettings(kind="sobel", padding="zero"), torch.empty(0)
    padding = answers.get("padding")
    if padding not in _PADDINGS:
        raise ModelError(
            f"--padding is {padding!r}; {', '.join(_PADDINGS)} can be computed here exactly."
        )
    channels = level.shape(_LAST)[0]
    banks = [level.square(name, channels, 1) for name in names]
    if len({bank.shape for bank in banks}) > 1:
        raise CheckpointError(f"{level.where}: its filters have different sizes.")
    bank = torch.cat([turned_filters(b, (0, 1), axes) for b in banks], 1)
    settings = PerceptionSettings(
        kind="depthwise", kernel=bank.shape[-1], filters=len(names), bias=False,
        padding=_PADDINGS[padding],
    )  # fmt: skip
    return settings, bank


def _fixed(level: Level, answers: PeerAnswers, channels: int) -> int:
    """How many fixed filters there are, where the file has no learned ones."""
    if answers.get("filters") != "sobel":
        raise ModelError(
            f"{level.where}: holds no learned filters; some versions of NCALab did not save them.",
            hint="Load it there, and save it with a version that does.",
        )
    if level.shape(_FIRST)[1:2] == (channels * 4,):
        raise ModelError(f"{level.where}: has {_REFUSED['use_laplace']}; it is not computed here.")
    return 2


def _columns(w0: Tensor, channels: int, which: Sequence[int], order: Tensor) -> Tensor:
    """Bring the columns of the first layer from filter by filter to channel by channel."""
    own = w0[:, :channels][:, order]
    seen = w0[:, channels:].reshape(len(w0), -1, channels)[:, list(which)][:, :, order]
    return torch.cat((own, seen.transpose(1, 2).flatten(1)), 1)


FAMILY = _NcaLab()
