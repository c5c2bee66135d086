"""What cases, patients and series are called in an imported data set."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.datasets.layout import safe_id
from medseg_nca.io.dicom.deid_words import uids_in
from medseg_nca.io.dicom.deidentify import patient_key
from medseg_nca.io.dicom.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.records import Series, Stack

# Names of stacks that are made of a fixed word and a number: "echo-2", "b-1000".
_HARMLESS = re.compile(r"[a-z]+-[\d.]+(_[a-z]+-[\d.]+)*")
# A shorter name of a file would be found in every number of a message.
_SHORTEST_STEM = 4


@dataclass(frozen=True)
class Names:
    """Gives names.

    Attributes:
        secret: what UIDs are hashed with: the key of the de-identification, or a salt that is
            published with the data set.
        hidden: whether names may say nothing of the patient.
    """

    secret: Pseudonyms
    hidden: bool = False

    def patient(self, series: Series) -> str:
        """A pseudonym, or the PatientID with safe characters only."""
        key = patient_key(series.patient_id, series.study_uid)
        if self.hidden:
            return self.secret.patient(key)
        return safe_id(series.patient_id.strip()) or f"unknown-{_short(series.study_uid)}"

    def uid(self, uid: str | None) -> str | None:
        """What stands for a UID in every report."""
        return self.secret.uid(uid) if uid else None

    def cases(self, stacks: Iterable[tuple[Series, Stack]]) -> list[str]:
        """Names for cases, which do not depend on the order of the volumes.

        ``<patient>_<series number>``, and the name of the stack if the series has several; two
        equal ones get a part of the hashed series UID. Hidden ones get it instead of the number.
        """
        stacks = list(stacks)
        plain = [self._case(series, stack) for series, stack in stacks]
        counts = Counter(name.casefold() for name in plain)
        return [
            f"{name}_{_short(series.uid)}" if counts[name.casefold()] > 1 else name
            for name, (series, _) in zip(plain, stacks, strict=True)
        ]

    def _case(self, series: Series, stack: Stack) -> str:
        if self.hidden:
            number = self.secret.name("series", series.uid)[:8]
        else:
            number = safe_id(series.tags.get("SeriesNumber", "").strip() or _short(series.uid))
        parts = [self.patient(series), number]
        if stack.name:
            parts.append(self.stack(series, stack))
        return "_".join(parts)

    def stack(self, series: Series, stack: Stack) -> str:
        """The name of a stack, which may be made of texts of the header."""
        if not self.hidden or _HARMLESS.fullmatch(stack.name):
            return safe_id(stack.name)
        return f"part-{[other.name for other in series.stacks].index(stack.name) + 1}"

    def message(self, text: str, root: Path, files: Sequence[Path] = ()) -> str:
        """A message as it may be shown: hidden names of files are replaced, and UIDs."""
        if not self.hidden:
            return text
        for path in sorted({*files}, key=lambda path: -len(str(path))):
            text = text.replace(str(path), "a file").replace(path.name, "a file")
            if len(path.stem) >= _SHORTEST_STEM:
                text = text.replace(path.stem, "a file")
        folders = {parent for path in files for parent in path.parents if parent != Path("/")}
        for folder in sorted({*folders, root}, key=lambda path: -len(str(path))):
            text = text.replace(str(folder), "the folder")
        for match in reversed(list(uids_in(text))):
            text = text[: match.start()] + self.secret.uid(match[0]) + text[match.end() :]
        return text


def _short(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:8]
