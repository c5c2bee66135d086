"""The DICOM volumes among the inputs of ``predict``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg_nca.datasets.dicom import case_names
from medseg_nca.errors import DataError
from medseg_nca.io.dicom.records import Scan, Series, Stack
from medseg_nca.io.dicom.scan import read_files, scan
from medseg_nca.io.dicom.select import parse_selection
from medseg_nca.pipelines.prediction_inputs import PredictionCase

logger = logging.getLogger(__name__)

_LOCALIZER = "localizer"
Found = tuple[Series, Stack | None]


def dicom_cases(
    trees: Sequence[Path], loose: Sequence[Path], dims: int, select: str | None
) -> list[PredictionCase]:
    """List the volumes in trees and among files, in the order of the inputs.

    A series that makes no volume is a case too, which fails by name when it is read. Localizers are
    passed over, and images of other axes than ``dims`` where there are some with these.

    Raises:
        DataError: if nothing is left.
        ConfigError: if ``select`` is not understood.
    """
    selection = parse_selection(select)
    scans = [scan(tree) for tree in trees] + ([read_files(list(loose))] if loose else [])
    where = ", ".join(str(path) for path in (*trees, *loose[:1]))
    found = [pair for one in scans for pair in _volumes(one)]
    chosen = [pair for pair in found if selection.matches(*pair)]
    fitting = [pair for pair in chosen if pair[1] is None or len(pair[1].shape) == dims]
    if len(fitting) < len(chosen) and fitting:
        logger.warning(
            "%s: %d DICOM images that have not %d axes are passed over.",
            where, len(chosen) - len(fitting), dims,
        )  # fmt: skip
    volumes = list({_identity(pair): pair for pair in fitting or chosen}.values())
    if not volumes:
        what = "none that fits the selection" if found else "none that is an image"
        raise DataError(
            f"{where}: of the DICOM series there is {what}.",
            hint=f"See what there is: medseg-nca dicom scan {(*trees, *loose)[0]}",
        )
    names = case_names(volumes)
    return [_case(name, *pair) for name, pair in zip(names, volumes, strict=True)]


def _volumes(found: Scan) -> Iterator[Found]:
    for problem in found.unreadable.values():
        logger.warning("File left out: %s", problem.message)
    for series in found.series:
        if series.kind != "image":
            continue
        yield from ((series, stack) for stack in series.stacks)
        broken = [problem for problem in series.problems if problem.kind != _LOCALIZER]
        if not series.stacks and broken:
            yield series, None
        elif not series.stacks:
            logger.info("Passed over: %s", "; ".join(p.message for p in series.problems))


def _identity(pair: Found) -> tuple[str, str | None]:
    series, stack = pair
    return series.uid, None if stack is None else stack.name


def _case(name: str, series: Series, stack: Stack | None) -> PredictionCase:
    if stack is None:
        return PredictionCase(name, series.files, dicom=True)
    files = _files(stack)
    uses = Counter(path for other in series.stacks for path in _files(other))
    shared = any(uses[path] > 1 for path in files)
    return PredictionCase(name, files, True, f'Stack="{stack.name}"' if shared else None)


def _files(stack: Stack) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(plane.path for plane in stack.planes))
