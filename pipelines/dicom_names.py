"""What cases, patients and series are called in an imported data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_nca.datasets.adapters.dicom import case_names, patient_name
from medseg_nca.io.dicom.deid.deidentify import patient_key
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.deid.rules import MODALITIES
from medseg_nca.io.dicom.deid.words import IdentityWords, uids_in
from medseg_nca.io.dicom.records import Series, Stack
from medseg_nca.work.case_records import content_key

# Names of stacks that are made of a fixed word and a small number: "echo-2", "b-1000". Other names
# end in a text of the header, or in a time of day, and may identify a patient.
_PART = r"(?!stack|type|component|kernel|clock|content)[a-z]+-\d{1,5}(\.\d{1,3})?"
_HARMLESS = re.compile(rf"{_PART}(_{_PART})*")
# Names of files that are shorter than this are not replaced: every number would hold one.
_SHORTEST_NAME = 4
_A_FILE = "a file"
_LEFT_OUT = "a file: what is wrong with it quotes its header, and is left out."


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
        if self.hidden:
            return self.secret.patient(patient_key(series.patient_id, series.study_uid))
        return patient_name(series)

    def uid(self, uid: str | None) -> str | None:
        """What stands for a UID in every report."""
        return self.secret.uid(uid) if uid else None

    def key(self, *parts: Any) -> str:
        """What stands for the content and settings of a result (plain values) in its record.

        It is made with the secret: otherwise whoever has the original files could find out which
        result was made of them.
        """
        return self.secret.token("key", content_key(*parts))

    def cases(self, stacks: Sequence[tuple[Series, Stack]]) -> list[str]:
        """Names for cases, which do not depend on the order of the volumes.

        Hidden ones are made of pseudonyms; see
        :func:`~medseg_nca.datasets.adapters.dicom.case_names`.
        """
        if not self.hidden:
            return case_names(stacks)
        return [self._hidden(series, stack) for series, stack in stacks]

    def _hidden(self, series: Series, stack: Stack) -> str:
        name = f"{self.patient(series)}_{self.secret.name('series', series.uid)}"
        return f"{name}_{self.stack(series, stack)}" if stack.name else name

    def stack(self, series: Series, stack: Stack) -> str:
        """The name of a stack, which may be made of texts of the header."""
        if not self.hidden or _HARMLESS.fullmatch(stack.name):
            return stack.name
        return f"part-{[other.name for other in series.stacks].index(stack.name) + 1}"

    def modality(self, series: Series) -> str:
        """Modality; hidden ones only where it is a term of the standard."""
        text = series.tags.get("Modality", "")
        return text if not self.hidden or text in MODALITIES else ""

    def message(
        self,
        text: str,
        root: Path,
        files: Sequence[Path] = (),
        words: IdentityWords | None = None,
    ) -> str:
        """A message as it may be shown: hidden names of files and folders are replaced, and UIDs.

        Args:
            text: the message.
            root: the folder that is read, in the form that messages have it.
            files: those that the message is likely to name.
            words: a message that holds one of them is left out.
        """
        if not self.hidden:
            return text
        for path in sorted({*files}, key=lambda path: -len(str(path))):
            for name in (str(path), path.name, path.stem):
                if len(name) >= _SHORTEST_NAME:
                    text = text.replace(name, _A_FILE)
        # Any other file of the tree: where its name ends is not known, so the clause goes with it.
        while str(root) in text:
            before, _, after = text.partition(str(root))
            text = f"{before}{_A_FILE}{''.join(after.partition(': ')[1:])}"
        for match in reversed(list(uids_in(text))):
            text = text[: match.start()] + self.secret.uid(match[0]) + text[match.end() :]
        named = words is not None and words.found_in(text.removeprefix(_A_FILE))
        return _LEFT_OUT if named else text
