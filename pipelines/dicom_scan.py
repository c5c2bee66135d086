"""Say what lies in a folder of DICOM files: patients, studies, series, volumes, problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.records import Problem, Scan, Series, Stack
from medseg_nca.io.dicom.scan import scan
from medseg_nca.job import Job
from medseg_nca.pipelines.dicom_names import Names

FORMAT_VERSION = 1
Tree = dict[str, Any]


def run(
    root: Path,
    *,
    hide: Pseudonyms | None = None,
    workers: int = 1,
    job: Job | None = None,
) -> Tree:
    """Scan a folder.

    Args:
        root: a folder tree, or one file.
        hide: a secret that identifiers are replaced with; texts that people typed are left out.
        workers: processes that read headers.
        job: told how many files are read.

    Returns:
        Plain values with fixed keys: ``patients`` > ``studies`` > ``series`` > ``stacks``; see
        docs/dicom.md.

    Raises:
        ImageError: if there is no such folder.
    """
    root = Path(root) if hide is None else Path(root).absolute()  # as messages name it
    found = scan(root, job=job, workers=workers)
    names = None if hide is None else Names(hide, hidden=True)
    describe = _Describer(found, names)
    return describe.tree()


class _Describer:
    """Turns a scan into plain values."""

    def __init__(self, found: Scan, names: Names | None) -> None:
        self.found = found
        self.names = names

    def tree(self) -> Tree:
        """The whole scan."""
        series = self.found.series
        volumes = [stack for one in series for stack in one.stacks]
        problems = sum(len(one.problems) for one in series) + len(self.found.unreadable)
        return {
            "format_version": FORMAT_VERSION,
            "root": None if self.names else str(self.found.root),
            "counts": {
                "patients": len({one.patient_id for one in series}),
                "studies": len({one.study_uid for one in series}),
                "series": len(series),
                "volumes": len(volumes),
                "problems": problems,
            },
            "patients": self._patients(series),
            "unreadable": [
                {"file": None if self.names else str(path), **self._problem(problem, (path,))}
                for path, problem in self.found.unreadable.items()
            ],
            "passed_over": dict(self.found.passed_over),
        }

    def _patients(self, series: Sequence[Series]) -> list[Tree]:
        patients: dict[str, dict[str, list[Series]]] = {}
        for one in series:
            patients.setdefault(one.patient_id, {}).setdefault(one.study_uid, []).append(one)
        return [
            {
                "id": self.names.patient(_first(studies)) if self.names else patient,
                "studies": [
                    {
                        "uid": self._uid(uid),
                        "date": self._text(group[0], "StudyDate"),
                        "description": self._text(group[0], "StudyDescription"),
                        "series": [self._series(one) for one in group],
                    }
                    for uid, group in studies.items()
                ],
            }
            for patient, studies in patients.items()
        ]

    def _series(self, series: Series) -> Tree:
        return {
            "uid": self._uid(series.uid),
            "number": series.tags.get("SeriesNumber", ""),
            "kind": series.kind,
            "modality": self._modality(series),
            "description": self._text(series, "SeriesDescription"),
            "body_part": self._text(series, "BodyPartExamined"),
            "files": len(series.files),
            "folder": None if self.names else str(series.files[0].parent),
            "frame_of_reference_uid": self._uid(series.frame_of_reference_uid),
            "stacks": [self._stack(series, stack) for stack in series.stacks],
            "problems": [self._problem(problem, series.files) for problem in series.problems],
            "notes": [self._problem(note, series.files) for note in series.notes],
        }

    def _stack(self, series: Series, stack: Stack) -> Tree:
        spacing = np.linalg.norm(stack.affine[:3, :3], axis=0)[: len(stack.shape)]
        letters = nib.aff2axcodes(stack.affine)[: len(stack.shape)]
        name = stack.name
        if self.names and name:
            name = self.names.stack(series, stack)
        return {
            "name": name,
            "shape": list(stack.shape),
            "spacing": [round(float(step), 6) for step in spacing],
            "orientation": "".join(map(str, letters)),
            "affine": stack.affine.tolist(),
            "shear_mm": float(stack.shear_mm),
        }

    def _problem(self, problem: Problem, files: Sequence[Path]) -> Tree:
        message = problem.message
        if self.names:
            message = self.names.message(message, self.found.root, files)
        return {"kind": problem.kind, "message": message}

    def _uid(self, uid: str | None) -> str | None:
        return self.names.uid(uid) if self.names else uid

    def _modality(self, series: Series) -> str:
        return self.names.modality(series) if self.names else series.tags.get("Modality", "")

    def _text(self, series: Series, keyword: str) -> str | None:
        return None if self.names else series.tags.get(keyword, "")


def _first(studies: dict[str, list[Series]]) -> Series:
    return next(iter(studies.values()))[0]
