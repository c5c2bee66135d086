"""The elements of a data set or of an item, whether pydicom has parsed it or it is still bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Plain ASCII (PS3.5 6.2), which needs no character set and no pydicom object for each value.
ASCII = frozenset(("AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"))


class Elements(Protocol):
    """What :class:`attributes.Attributes` looks things up in. No method raises over odd values."""

    def __contains__(self, tag: int) -> bool:
        """Whether the element is there, with or without a value."""

    def tags(self) -> Iterator[int]:
        """The tags of all elements."""

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values as text, without padding; () if there are none."""

    def value(self, tag: int) -> Any:
        """The value as pydicom has it; None if there is none, or it cannot be understood."""

    def items(self, tag: int) -> Sequence[Elements]:
        """The items of a sequence; () if it is absent or no sequence."""


def elements_of(source: Dataset | Elements) -> Elements:
    """The elements of a data set of pydicom; what is no such data set is returned."""
    from pydicom.dataset import Dataset

    return Parsed(source) if isinstance(source, Dataset) else source


def as_texts(value: Any) -> tuple[str, ...]:
    """The texts of a value of pydicom; () if all are empty."""
    if value is None:
        return ()
    values = [value] if isinstance(value, str | bytes) or not isinstance(value, Iterable) else value
    return stripped(str(part) for part in values)


def stripped(texts: Iterable[str]) -> tuple[str, ...]:
    """Texts without padding; () if all are empty. Many devices fill with NUL instead of a space."""
    found = tuple(text.strip(" \0\t\r\n") for text in texts)
    return found if any(found) else ()


class Parsed:
    """The elements of a data set of pydicom."""

    __slots__ = ("_dataset",)

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __contains__(self, tag: int) -> bool:
        """Whether the element is there, with or without a value."""
        return tag in self._dataset

    def tags(self) -> Iterator[int]:
        """The tags of all elements."""
        return map(int, self._dataset.keys())

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values as text, without padding; () if there are none."""
        from pydicom.dataelem import RawDataElement

        if tag not in self._dataset:
            return ()
        element = self._dataset.get_item(tag)
        if isinstance(element, RawDataElement) and self._vr(tag) in ASCII:
            return stripped((element.value or b"").decode("ascii", "replace").split("\\"))
        return as_texts(self.value(tag))

    def value(self, tag: int) -> Any:
        """The value; None if there is none, or it cannot be understood."""
        try:
            return self._dataset[tag].value if tag in self._dataset else None
        except Exception:  # pydicom's converters raise whatever int(), float() or struct raise
            return None

    def items(self, tag: int) -> Sequence[Elements]:
        """The items of a sequence; () if it is absent or no sequence."""
        from pydicom.sequence import Sequence as Items

        value = self.value(tag) if tag in self._dataset and self._vr(tag) == "SQ" else None
        return [Parsed(item) for item in value] if isinstance(value, Items) else ()

    def _vr(self, tag: int) -> str:
        from pydicom.datadict import dictionary_VR

        vr = self._dataset.get_item(tag).VR
        if vr in (None, "UN"):
            try:
                return str(dictionary_VR(tag))
            except KeyError:
                return "UN"
        return str(vr)
