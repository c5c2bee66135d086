"""OctreeNCA (arXiv 2508.06993), in 2D and 3D: one file, with ``backbone_ncas.0`` the finest level.

Its cells are BasicNCA2D and BasicNCA3D, their fast forms, or BackboneNCA (OctreeNCAV2). Levels may
share one cell, ``backbone_nca``. Coarse levels see the first of a cell's voxels (nearest).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from medseg_nca.errors import CheckpointError, ConfigError, ModelError
from medseg_nca.peers.agents import split_levels
from medseg_nca.peers.answers import ALWAYS, PeerAnswers, turned
from medseg_nca.peers.automaton import assemble, check_axes, entry, named
from medseg_nca.peers.cells import Level, PeerCell, depthwise_cell, med_cell
from medseg_nca.peers.checkpoint import PeerFile
from medseg_nca.peers.families.base import Converted, Family

_LEVEL = re.compile(r"backbone_ncas\.(\d{1,2})\.")
_SHARED = "backbone_nca."


class _OctreeNca(Family):
    title = "OctreeNCA"
    source = "MECLabTUDA/OctreeNCA"

    def recognises(self, files: Sequence[PeerFile]) -> bool:
        """See :meth:`Family.recognises`: one set of cells in a module."""
        return any(
            name.startswith(("backbone_ncas.", _SHARED)) for file in files for name in file.tensors
        )

    def asks(self, files: Sequence[PeerFile]) -> Mapping[str, str]:
        """See :meth:`Family.asks`; a norm has weights, but they do not say which norm it is."""
        asked = {
            **ALWAYS,
            "axes": "nowhere: NIfTI data sets have the axes of the file, pictures rows first",
            "scales": "model.octree.res_and_steps: the first resolution divided by each, reversed",
            "steps": "model.octree.res_and_steps, reversed",
            "fire_rate": "model.fire_rate",
            "channels": "model.input_channels says how many",
            "labels": "model.output_channels says how many",
            "size": "experiment.dataset.input_size",
        }
        if not any(name.endswith("p1.weight") for file in files for name in file.tensors):
            asked["norm"] = "model.normalization, batch if it is not there"
        return asked

    def published(self, tree: Any, axes: str | None) -> PeerAnswers:
        """See :meth:`Family.published`: config.json, one JSON object."""
        config = tree[0] if isinstance(tree, list) and tree else tree
        if not isinstance(config, Mapping):
            raise ModelError(
                "--settings: an object of settings is needed, as config.json holds it."
            )
        if config.get("model.vitca"):
            raise ModelError("--settings: model.vitca is set; attention (ViTCA) is not computed.")
        if config.get("model.apply_nonlin") is not None:
            raise ModelError("--settings: model.apply_nonlin is set, and runs code of its own.")
        scales, steps, size = _pyramid(config, axes)
        rate = entry(config, "model.fire_rate", (int, float))
        norm = entry(config, "model.normalization", str)
        return PeerAnswers(
            channels=named("image", entry(config, "model.input_channels", int)),
            labels=named("label", entry(config, "model.output_channels", int)),
            scales=scales,
            steps=steps,
            size=size,
            fire_rate=float(rate) if isinstance(rate, int | float) else None,
            norm=norm if isinstance(norm, str) else "batch",
        )

    def convert(self, files: Sequence[PeerFile], answers: PeerAnswers) -> Converted:
        """See :meth:`Family.convert`."""
        if len(files) != 1:
            raise CheckpointError(
                f"{len(files)} files are given; OctreeNCA writes all levels into one.",
                hint="Give model.pth, or ema.pth for the averaged weights.",
            )
        levels, shared = _levels_of(files[0])
        cells = [_cell(level, answers) for level in levels]
        where = [level.where for level in levels]
        count = len(answers.get("scales")) if shared else None
        return assemble("octree_nca", cells, where, answers, shrink="first", levels=count)


def _levels_of(file: PeerFile) -> tuple[list[Level], bool]:
    """The levels, coarse to fine, and whether they share the cell."""
    if any(name.startswith(_SHARED) for name in file.tensors):
        return split_levels(file, [_SHARED]), True
    numbers = [int(found[1]) for name in file.tensors if (found := _LEVEL.match(name))]
    last = max(numbers, default=0)
    if last >= 16:
        raise CheckpointError(f"{file.name}: has a level {last}; a model has at most 16.")
    return split_levels(file, [f"backbone_ncas.{n}." for n in range(last, -1, -1)]), False


def _cell(level: Level, answers: PeerAnswers) -> PeerCell:
    filters = next((t for n, t in level.tensors.items() if n in {"p0.weight", "conv.weight"}), None)
    if filters is None:
        raise CheckpointError(f"{level.where}: lacks p0.weight, or conv.weight of the fast form.")
    axes = check_axes(answers, filters.ndim - 2)
    if "p1.weight" in level.tensors:
        return med_cell(level, axes)
    images = len(answers.get("channels"))
    cell = depthwise_cell(level, axes, images, answers.get("norm"))
    if (
        not cell.opposite
        and cell.tensors["update.output.weight"].shape[0] != cell.channels - images
    ):
        raise ConfigError(f"--channels names {images} image channels, which the file has not.")
    return cell


def _pyramid(
    config: Mapping[str, Any], axes: str | None
) -> tuple[
    tuple[tuple[int, ...], ...] | None, tuple[int, ...] | None, tuple[int, ...] | None
]:  # fmt: skip
    """Scales and steps, coarse to fine, and the size of the finest level."""
    key = "model.octree.res_and_steps"
    pairs = entry(config, key, list)
    if not isinstance(pairs, list) or not pairs:
        return None, None, None
    try:
        dims = len(pairs[0][0])
        sizes = [turned(size, axes, dims) for size, _ in pairs]
        steps = tuple(count for _, count in pairs)
        if any(type(n) is not int or n < 1 for n in steps):
            raise ValueError(f"steps {steps} are not whole numbers above 0")
        finest = sizes[0]
        for size in sizes:
            if any(whole % part for whole, part in zip(finest, size, strict=True)):
                raise ValueError(
                    f"{finest} is no multiple of {size}, so that cells would not be whole voxels"
                )
    except (ValueError, TypeError, IndexError) as error:
        raise ModelError(f"--settings: {key}: {str(error)[:200]}.") from error
    scales = [tuple(w // p for w, p in zip(finest, size, strict=True)) for size in sizes]
    return tuple(scales[::-1]), steps[::-1], finest


FAMILY = _OctreeNca()
