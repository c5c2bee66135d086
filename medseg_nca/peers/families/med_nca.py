"""Med-NCA (arXiv 2302.03473): BackboneNCA on two levels, published with M3D-NCA's code.

An agent writes ``model0.pth`` (coarse) and ``model1.pth``; the module MedNCA writes one file with
``backbone_lowres`` and ``backbone_highres``. Its image is made four times smaller by linear
interpolation without smoothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg_nca.errors import ModelError
from medseg_nca.peers.agents import level_files, read_agent_config
from medseg_nca.peers.answers import ALWAYS, PeerAnswers
from medseg_nca.peers.automaton import assemble, check_axes, in_order
from medseg_nca.peers.cells import Level, med_cell
from medseg_nca.peers.checkpoint import PeerFile
from medseg_nca.peers.families.base import Converted, Family

_WRAPPED = ("backbone_lowres.", "backbone_highres.")


class _MedNca(Family):
    title = "Med-NCA"
    source = "MECLabTUDA/Med-NCA, MECLabTUDA/M3D-NCA"

    def recognises(self, files: Sequence[PeerFile]) -> bool:
        """See :meth:`Family.recognises`: two full convolutions in 2D."""
        shapes = {n: s for file in files for n, s in file.shapes.items()}
        return any(
            name.removeprefix("backbone_lowres.").removeprefix("backbone_highres.") == "p1.weight"
            and len(shape) == 4
            for name, shape in shapes.items()
        )

    def asks(self, files: Sequence[PeerFile]) -> Mapping[str, str]:
        """See :meth:`Family.asks`; that the factor of two levels is 4 stands in the code."""
        asked = {
            **ALWAYS,
            "axes": "nowhere: its NIfTI data sets have the axes of the file",
            "steps": "inference_steps",
            "fire_rate": "cell_fire_rate",
        }
        return (
            asked if _levels(files) == 2 else {**asked, "scales": "in the code: 4,1 of two levels"}
        )

    def published(self, tree: Any, axes: str | None) -> PeerAnswers:
        """See :meth:`Family.published`: config.dt, a JSON list."""
        return read_agent_config(tree, axes, 2)

    def convert(self, files: Sequence[PeerFile], answers: PeerAnswers) -> Converted:
        """See :meth:`Family.convert`."""
        levels = level_files(files, _WRAPPED)
        wrapped = levels is not None
        if levels is None:
            levels = [Level(file.name, file.tensors) for file in in_order(files)]
        axes = check_axes(answers, 2)
        if len(answers.get("channels")) > 1:
            raise ModelError(
                "The published BackboneNCA keeps the first image channel only and changes the "
                f"others; --channels names {len(answers.get('channels'))}.",
                hint="Checkpoints of Med-NCA with one image channel can be imported.",
            )
        if answers.scales is None and len(levels) == 2:
            answers = PeerAnswers(scales=((4,), (1,))).over(answers)
        cells = [med_cell(level, axes, crossing=not wrapped) for level in levels]
        where = [level.where for level in levels]
        return assemble("med_nca", cells, where, answers, shrink="middle")


def _levels(files: Sequence[PeerFile]) -> int:
    return len(level_files(files, _WRAPPED) or files)


FAMILY = _MedNca()
