"""The seam of a family: what its files look like, what they leave open, and what they mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.peers.answers import PeerAnswers
from medseg_nca.peers.checkpoint import PeerFile


@dataclass(frozen=True)
class Converted:
    """A checkpoint as a model of this package.

    Attributes:
        model: the settings, with the channels of image and logits.
        weights: the tensors of :class:`~medseg_nca.models.multilevel.MultiLevelNca`, by name.
        understood: what was read and how it was mapped, in words: rows of a table.
        assumed: what the files do not say and nobody was asked for, a sentence each.
    """

    model: NcaModelSettings
    weights: Mapping[str, Tensor]
    understood: tuple[tuple[str, str], ...]
    assumed: tuple[str, ...] = ()


class Family(ABC):
    """One family of published automata.

    Attributes:
        title: its name in sentences.
        source: where the code was published.
    """

    title: str
    source: str

    @abstractmethod
    def recognises(self, files: Sequence[PeerFile]) -> bool:
        """Say whether the names and shapes of the tensors look like this family's."""

    @abstractmethod
    def asks(self, files: Sequence[PeerFile]) -> Mapping[str, str]:
        """Return what the files do not say.

        Returns:
            For each name of :class:`~medseg_nca.peers.answers.PeerAnswers` where the published
            configuration has it.
        """

    @abstractmethod
    def published(self, tree: Any, axes: str | None) -> PeerAnswers:
        """Read a configuration file of the published code.

        Args:
            tree: what the JSON file holds.
            axes: the answer ``axes``; sizes per axis are turned by it.

        Raises:
            ModelError: if a value is of a kind that cannot be computed, or cannot be read.
        """

    @abstractmethod
    def convert(self, files: Sequence[PeerFile], answers: PeerAnswers) -> Converted:
        """Turn the files into a model; all that :meth:`asks` names is answered.

        Raises:
            CheckpointError: if tensors are missing, too many or of another shape.
            ConfigError: if an answer does not fit the files.
            ModelError: if the checkpoint has a feature that cannot be computed exactly.
        """
