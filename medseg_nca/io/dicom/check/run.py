"""Check DICOM objects: dciodvfy where it is installed, and rules of our own.

Our rules look at what dciodvfy does not: that references lead somewhere, that segments, frames and
regions agree with each other, that codes exist and mean what they say, that numbers fit.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.check.regions import rtstruct_rules, sc_rules, sr_rules
from medseg_nca.io.dicom.check.rules import (
    COMPARED,
    ObjectFinding,
    Tool,
    common_rules,
    reference_rules,
)
from medseg_nca.io.dicom.check.segmentation import seg_rules
from medseg_nca.io.dicom.files.reader import DicomError, read_header
from medseg_nca.io.dicom.quiet import quiet

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["CheckResult", "ObjectFinding", "check_file", "check_files", "dciodvfy_path"]

TIMEOUT_S = 60
_MOST_OUTPUT = 256 * 1024
# dciodvfy of 2022 knows no label maps (Supplement 243) and then reports nonsense about them.
_UNKNOWN_KIND = "Information Object Not found"
_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}  # not in pydicom 3.0
_RULES = {
    "1.2.840.10008.5.1.4.1.1.66.4": seg_rules,
    "1.2.840.10008.5.1.4.1.1.66.7": seg_rules,
    "1.2.840.10008.5.1.4.1.1.481.3": rtstruct_rules,
    "1.2.840.10008.5.1.4.1.1.7": sc_rules,
    "1.2.840.10008.5.1.4.1.1.88.22": sr_rules,
    "1.2.840.10008.5.1.4.1.1.88.33": sr_rules,
    "1.2.840.10008.5.1.4.1.1.88.34": sr_rules,
}


@dataclass(frozen=True)
class CheckResult:
    """What was found in one file.

    Attributes:
        path: the file.
        kind: name of its SOP class, or "" if it could not be read.
        findings: errors first.
        tools: what checked it: ``medseg-nca``, and ``dciodvfy`` where it ran.
    """

    path: Path
    kind: str
    findings: tuple[ObjectFinding, ...]
    tools: tuple[Tool, ...]

    @property
    def errors(self) -> tuple[ObjectFinding, ...]:
        """What must be mended."""
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[ObjectFinding, ...]:
        """What may be meant so."""
        return tuple(f for f in self.findings if f.severity == "warning")


def check_file(path: Path, timeout_s: float = TIMEOUT_S) -> CheckResult:
    """Check one file by itself as :func:`check_files` does.

    It never raises for what is wrong with the file.
    """
    return check_files([path], timeout_s)[0]


def check_files(paths: Sequence[Path], timeout_s: float = TIMEOUT_S) -> tuple[CheckResult, ...]:
    """Check files, and that those which refer to each other agree.

    Where the instances that an object refers to are among the files, its study and frame of
    reference must be theirs.

    Args:
        paths: DICOM files.
        timeout_s: seconds after which dciodvfy is stopped, for each file.

    Returns:
        One result per path, in their order.
    """
    # Headers are read twice: all of a folder would not fit into memory.
    known = _identities(paths) if len(paths) > 1 else {}
    return tuple(_check(Path(path), *_read(Path(path)), known, timeout_s) for path in paths)


def dciodvfy_path() -> str | None:
    """Return where dciodvfy is installed, or None (Debian: ``apt-get install dicom3tools``)."""
    return shutil.which("dciodvfy")


def _identities(paths: Sequence[Path]) -> dict[str, Mapping[str, Any]]:
    """What instances are of, by SOPInstanceUID."""
    known: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        dataset, _ = _read(Path(path))
        if dataset is not None:
            with quiet():
                known[str(dataset.get("SOPInstanceUID"))] = {
                    keyword: dataset.get(keyword) for keyword in COMPARED
                }
    return known


def _read(path: Path) -> tuple[Dataset | None, str]:
    try:
        return read_header(path), ""
    except DicomError as error:
        return None, error.problem.message


def _check(
    path: Path,
    dataset: Dataset | None,
    problem: str,
    known: Mapping[str, Mapping[str, Any]],
    timeout_s: float,
) -> CheckResult:
    if dataset is None:
        return CheckResult(
            path, "", (ObjectFinding("error", "medseg-nca", problem),), ("medseg-nca",)
        )
    with quiet():
        uid = dataset.get("SOPClassUID", "")
        kind = _NAMES.get(str(uid)) or str(getattr(uid, "name", uid))
        findings: list[ObjectFinding] = []
        rules = _RULES.get(str(uid))
        try:
            findings += common_rules(dataset)
            findings += rules(dataset) if rules else ()
            findings += reference_rules(dataset, known)
        except Exception as error:  # a rule looked for an element that must exist
            said = f"is incomplete or damaged: {type(error).__name__} while it was checked"
            findings.append(ObjectFinding("error", "medseg-nca", said))
    program = dciodvfy_path()
    if program is not None:
        findings += _dciodvfy(program, path, timeout_s)
    ordered = sorted(dict.fromkeys(findings), key=lambda finding: finding.severity)
    tools: tuple[Tool, ...] = ("medseg-nca",) if program is None else ("medseg-nca", "dciodvfy")
    return CheckResult(path, kind, tuple(ordered), tools)


def _dciodvfy(program: str, path: Path, timeout_s: float) -> list[ObjectFinding]:
    try:
        lines = _output(program, path, timeout_s)
    except OSError as error:
        said = f"dciodvfy cannot be started ({type(error).__name__})"
        return [ObjectFinding("warning", "dciodvfy", said)]
    if lines is None:
        said = f"dciodvfy did not finish within {timeout_s:g} s"
        return [ObjectFinding("warning", "dciodvfy", said)]
    if any(_UNKNOWN_KIND in line for line in lines):
        said = "this version of dciodvfy does not know this kind of object"
        return [ObjectFinding("warning", "dciodvfy", said)]
    return list(_parsed(lines))


def _parsed(lines: Sequence[str]) -> Iterator[ObjectFinding]:
    for line in lines:
        word, _, said = line.partition(" - ")
        if word == "Error":
            yield ObjectFinding("error", "dciodvfy", _without_values(said))
        elif word == "Warning":
            yield ObjectFinding("warning", "dciodvfy", _without_values(said))


def _without_values(said: str) -> str:
    """Leave out the values that dciodvfy quotes: they may name a patient."""
    return re.sub(r"= <[^>]*>", "= <...>", said).strip()[:500]


def _output(program: str, path: Path, timeout_s: float) -> list[str] | None:
    """What the program says, up to a limit; None if it had to be stopped."""
    stopped = threading.Event()
    with subprocess.Popen(
        [program, str(path.resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:

        def stop() -> None:
            stopped.set()
            process.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        try:
            output = process.stdout.read(_MOST_OUTPUT) if process.stdout else b""
            process.kill()
        finally:
            timer.cancel()
    lines = output.decode("utf-8", "replace").splitlines()
    cut = len(output) == _MOST_OUTPUT
    return None if stopped.is_set() else lines[:-1] if cut else lines
