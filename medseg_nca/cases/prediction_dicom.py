"""The DICOM volumes among the inputs of ``predict``."""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.config.plan import PreprocessPlan
from medseg_nca.datasets.adapters.dicom import case_names
from medseg_nca.errors import DataError
from medseg_nca.io.dicom.records import Problem, Scan, Series, Stack
from medseg_nca.io.dicom.scan import read_files, scan, series_uid_of_damaged
from medseg_nca.io.dicom.select import Selection, parse_selection
from medseg_nca.io.formats import stem

logger = logging.getLogger(__name__)

# The most reasons that a message gives.
_NAMED = 3
Found = tuple[Series, Stack | None]


def dicom_cases(
    trees: Sequence[Path],
    loose: Sequence[Path],
    plan: PreprocessPlan,
    select: str | None,
    *,
    alone: bool = True,
) -> list[CaseInput]:
    """List the volumes in trees and among files, in the order of the inputs.

    A series, or a part of one, that makes no volume is a case too, which fails by name when it is
    read. So are files that cannot be read; with ``select``, only those that may belong to a chosen
    series. Localizers are passed over. Images that have not as many axes as the model are passed
    over too, if others have.

    Args:
        trees: folders with DICOM files.
        loose: single DICOM files.
        plan: the plan of the model.
        select: conditions on tags, as ``--select`` takes them.
        alone: whether these are the only inputs; if there are others, a tree without images is no
            error.

    Raises:
        DataError: if there is no volume; beside other inputs, files without an image make a case
            that fails by name.
        ConfigError: if ``select`` is malformed.
    """
    selection = parse_selection(select)
    scans = [scan(tree) for tree in trees] + ([read_files(list(loose))] if loose else [])
    where = ", ".join(str(path) for path in (*trees, *loose[:1]))
    found = [pair for one in scans for pair in _volumes(one)]
    chosen = [pair for pair in found if _is_chosen(selection, *pair)]
    fitting = [pair for pair in chosen if pair[1] is None or len(pair[1].shape) == plan.dims]
    if len(fitting) < len(chosen) and fitting:
        logger.warning(
            "%s: %d DICOM images that have not %d axes are passed over.",
            where, len(chosen) - len(fitting), plan.dims,
        )  # fmt: skip
    volumes = list({_identity(pair): pair for pair in fitting or chosen}.values())
    if not volumes and (alone or loose or select):
        what = "none that fits the selection" if found else "none that is an image"
        lost = [problem for one in scans for problem in one.unreadable.values()]
        text = f"{where}: of the DICOM series there is {what}. {_reasons(lost)}".strip()
        if alone or select:
            raise DataError(text, hint=_look((*trees, *loose)[0]))
        return [CaseInput(stem(loose[0]), tuple(loose), dicom=True, refused=text)]
    for series in {series.uid: series for series, _ in volumes}.values():
        for note in series.doubts:
            logger.warning("%s: %s", series.files[0].parent, note.message)
    damaged = dict.fromkeys(case for one in scans for case in _damaged(one, selection))
    uses = {series.uid: _uses(series) for series, _ in volumes}
    return [
        _case(name, series, stack, uses[series.uid])
        for name, (series, stack) in zip(case_names(volumes), volumes, strict=True)
    ] + list(damaged)


def _volumes(found: Scan) -> Iterator[Found]:
    for series in found.series:
        if series.kind != "image":
            continue
        yield from ((series, stack) for stack in series.stacks)
        if series.refused:
            yield series, None
        elif not series.stacks:
            logger.info("Passed over: %s", "; ".join(p.message for p in series.problems))


def _is_chosen(selection: Selection, series: Series, stack: Stack | None) -> bool:
    """Return whether the selection chooses this series, or this stack of it.

    A selection that names stacks chooses stacks only, and no series as a whole.
    """
    if stack is None and series.stacks and selection.of_stacks:
        return False
    return selection.matches(series, stack)


def _damaged(found: Scan, selection: Selection) -> Iterator[CaseInput]:
    """Yield a failing case for files that cannot be read, one for each series.

    Files of a series in the scan are left out, because that series names them itself.
    """
    known = {series.uid for series in found.series}
    groups: dict[str | Path, dict[Path, Problem]] = {}
    for path, problem in found.unreadable.items():
        uid = series_uid_of_damaged(path)
        if uid in known:
            continue
        if uid and selection.conditions:
            logger.warning("File left out: %s", problem.message)
        else:
            groups.setdefault(uid or path, {})[path] = problem
    for group in groups.values():
        files = tuple(group)
        text = _reasons(list(group.values()))
        yield CaseInput(stem(files[0]), files, dicom=True, refused=text)


def _reasons(problems: Sequence[Problem]) -> str:
    more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
    return " ".join(problem.message for problem in problems[:_NAMED]) + more


def _look(path: Path) -> str:
    return f"See what there is: medseg-nca dicom scan {shlex.quote(str(path))}"


def _identity(pair: Found) -> tuple[str, str | None]:
    series, stack = pair
    return series.uid, None if stack is None else stack.name


def _uses(series: Series) -> Counter[Path]:
    """Return for each file of a series how many volumes it holds a part of."""
    return Counter(path for stack in series.stacks for path in _files(stack))


def _case(name: str, series: Series, stack: Stack | None, uses: Counter[Path]) -> CaseInput:
    if stack is None:
        folder = series.files[0].parent
        text = _reasons(series.refused)
        text = text if str(folder) in text else f"{folder}: {text}"
        return CaseInput(name, series.files, dicom=True, refused=text)
    files = _files(stack)
    shared = any(uses[path] > 1 for path in files)
    # The case may go to another process, and it needs only the tags of the series and one stack.
    alone = replace(series, files=(), stacks=())
    return CaseInput(name, files, True, (alone, stack), stack.name if shared else None)


def _files(stack: Stack) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(plane.path for plane in stack.planes))
