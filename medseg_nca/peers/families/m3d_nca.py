"""M3D-NCA (arXiv 2309.02954): BasicNCA3D on two or more levels, in 3D.

An agent writes ``model0.pth`` (coarsest, kernel 7) and on; the module M3DNCA writes one file with
``model.0``, ``model.1`` and on. Coarse levels see the largest of a cell's voxels (max-pooling). The
batch norm takes the statistics of all cells of the image itself, unless a module with running
statistics was put into evaluation mode.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from medseg_nca.peers.agents import level_files, read_agent_config
from medseg_nca.peers.answers import ALWAYS, PeerAnswers
from medseg_nca.peers.automaton import assemble, check_axes, check_kernels, in_order
from medseg_nca.peers.cells import Level, depthwise_cell
from medseg_nca.peers.checkpoint import PeerFile
from medseg_nca.peers.families.base import Converted, Family

_LEVEL = re.compile(r"model\.(\d{1,2})\.")
_FILTERS = re.compile(r"(model\.\d{1,2}\.)?p0\.weight")


class _M3dNca(Family):
    title = "M3D-NCA"
    source = "MECLabTUDA/M3D-NCA"

    def recognises(self, files: Sequence[PeerFile]) -> bool:
        """See :meth:`Family.recognises`: depthwise filters in 3D."""
        shapes = {n: s for file in files for n, s in file.shapes.items()}
        return any(
            _FILTERS.fullmatch(name) is not None and len(shape) == 5
            for name, shape in shapes.items()
        )

    def asks(self, files: Sequence[PeerFile]) -> Mapping[str, str]:
        """See :meth:`Family.asks`."""
        asked = {
            **ALWAYS,
            "axes": "nowhere: its NIfTI data sets have the axes of the file",
            "scales": "scale_factor, to the power of the levels that follow; 2 if it is not there",
            "steps": "inference_steps",
            "fire_rate": "cell_fire_rate",
        }
        if any(name.endswith("running_mean") for file in files for name in file.tensors):
            asked["norm"] = (
                "nowhere: the agents never call eval(), which is batch; after eval() it is running"
            )
        return asked

    def published(self, tree: Any, axes: str | None) -> PeerAnswers:
        """See :meth:`Family.published`: config.dt, a JSON list."""
        return read_agent_config(tree, axes, 3)

    def convert(self, files: Sequence[PeerFile], answers: PeerAnswers) -> Converted:
        """See :meth:`Family.convert`."""
        numbers = {
            int(found[1])
            for file in files
            for name in file.tensors
            if (found := _LEVEL.match(name))
        }
        prefixes = [f"model.{number}." for number in range(max(numbers, default=-1) + 1)]
        levels = level_files(files, prefixes) if prefixes else None
        if levels is None:
            levels = [Level(file.name, file.tensors) for file in in_order(files)]
        axes, images = check_axes(answers, 3), len(answers.get("channels"))
        norm = answers.norm or "batch"
        cells = [depthwise_cell(level, axes, images, norm) for level in levels]
        check_kernels(cells)
        where = [level.where for level in levels]
        return assemble("m3d_nca", cells, where, answers, shrink="max")


FAMILY = _M3dNca()
