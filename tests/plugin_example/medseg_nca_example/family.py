"""Checkpoints of a laboratory that trains Med-NCA inside a module called ``net``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medseg_nca.peers.answers import PeerAnswers
from medseg_nca.peers.checkpoint import PeerFile
from medseg_nca.peers.families import FAMILIES
from medseg_nca.peers.families.base import Converted, Family

PREFIX = "net."


class ExampleFamily(Family):
    """Med-NCA under other names."""

    title = "the example's Med-NCA"
    source = "tests/plugin_example"

    @property
    def published_family(self) -> Family:
        """The family whose cells these are."""
        return FAMILIES.get("med_nca")

    def recognises(self, files: Sequence[PeerFile]) -> bool:
        """Say whether every tensor is one of ``net``."""
        return all(name.startswith(PREFIX) for file in files for name in file.shapes)

    def asks(self, files: Sequence[PeerFile]) -> Mapping[str, str]:
        """Ask for what Med-NCA's files do not say."""
        return self.published_family.asks(_renamed(files))

    def published(self, tree: Any, axes: str | None) -> PeerAnswers:
        """Read the configuration of Med-NCA."""
        return self.published_family.published(tree, axes)

    def convert(self, files: Sequence[PeerFile], answers: PeerAnswers) -> Converted:
        """Convert the files under the names that Med-NCA gives its tensors."""
        return self.published_family.convert(_renamed(files), answers)


def _renamed(files: Sequence[PeerFile]) -> list[PeerFile]:
    return [
        replace(file, tensors={n.removeprefix(PREFIX): t for n, t in file.tensors.items()})
        for file in files
    ]


FAMILY = ExampleFamily()
