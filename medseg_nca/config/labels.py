"""The label table: what the numbers in a label map mean."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import MAX_LABELS, LabelValue, Name, short

# All labels taken together, where labels are named.
MERGED = "merged"


class Code(Settings):
    """A coded concept, as DICOM writes it (for example SCT 5366008 "Hippocampus")."""

    scheme: str
    value: str
    meaning: str


class Label(Settings):
    """One class of a label map.

    ``values`` are the numbers that mean this label in a source label map. One number is the rule;
    several make a region (for example "whole tumour" = 1, 2 and 3), which needs a multi-label
    table. ``write`` is the number that predictions carry, the first of ``values`` when not given.
    ``code`` says what it is, ``modifier`` which part or side of it (SCT 255549009 "Anterior").
    """

    name: Name = Field(min_length=1)
    values: tuple[LabelValue, ...] = Field(min_length=1)
    write: LabelValue | None = None
    code: Code | None = None
    modifier: Code | None = None

    @property
    def written(self) -> int:
        """The number that this label has in a predicted label map."""
        return self.values[0] if self.write is None else self.write


class LabelTable(Settings):
    """All labels of a data set or model, background (0) not among them.

    Model channels follow this order. With ``multi_label`` false they are exclusive: channel 0 is
    the background, channel ``i + 1`` is ``labels[i]``, probabilities by softmax. With
    ``multi_label`` true there is no background channel, channel ``i`` is ``labels[i]``,
    probabilities by sigmoid, and in a written label map a later label covers an earlier one.
    """

    labels: tuple[Label, ...] = Field(min_length=1, max_length=MAX_LABELS)
    multi_label: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            raise ValueError(f"label names must differ, got {short(names)}")
        used = [value for label in self.labels for value in label.values]
        if 0 in used:
            raise ValueError("0 is the background and cannot be a label value")
        written = [label.written for label in self.labels]
        if 0 in written or len(set(written)) != len(written):
            raise ValueError(
                f"labels must be written as numbers that differ and are not 0, "
                f"got {short(written)}; set write"
            )
        if not self.multi_label and len(set(used)) != len(used):
            raise ValueError("a value belongs to two labels; that needs multi_label: true")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in channel order."""
        return tuple(label.name for label in self.labels)

    @property
    def channels(self) -> int:
        """How many output channels a model needs for this table."""
        return len(self.labels) + (0 if self.multi_label else 1)

    @property
    def known_values(self) -> frozenset[int]:
        """Every number a label map may hold, background included."""
        return frozenset({0, *(value for label in self.labels for value in label.values)})

    def predicted_values(self, label: Label) -> frozenset[int]:
        """The numbers that mean ``label`` in a predicted label map.

        Exclusive labels have one. A region of a multi-label table also holds the labels that lie
        inside it and cover it in the map, whose numbers are among its ``values``.
        """
        return frozenset({label.written, *(label.values if self.multi_label else ())})
