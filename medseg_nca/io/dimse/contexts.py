"""The presentation contexts that are proposed to an archive (PS3.8 9.3.2): classes and syntaxes.

An acceptor takes one transfer syntax of each context. Where there is room, each syntax therefore
has a context of its own, so that an archive can send each object as it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medseg_nca.io.dicom.files.classes import (
    LABEL_MAP_SEGMENTATION,
    MEASURED,
    RT_STRUCTURE_SET,
    SEGMENTATION,
    STORAGE,
)
from medseg_nca.io.dicom.files.syntaxes import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    SYNTAXES,
)

FIND = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root Query/Retrieve Information Model - FIND
GET = "1.2.840.10008.5.1.4.1.2.2.3"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
# An acceptor takes one of several syntaxes of a context. The native ones come first, as archives
# that propose packed ones beside them can mostly unpack, not all can pack; lossy ones come last.
_NATIVE = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED)
_LOSSLESS = tuple("1.2.840.10008.1.2." + number for number in (
    "4.70", "4.57", "4.80", "4.90", "4.201", "4.202", "5",
))  # fmt: skip
_ORDER = tuple(dict.fromkeys((*_NATIVE, *_LOSSLESS, *SYNTAXES)))
# Contexts of one association, without that of the request itself.
_MOST = 127
# What is proposed to an archive that does not tell the classes of its instances.
_USUAL = (
    *sorted(MEASURED), SEGMENTATION, LABEL_MAP_SEGMENTATION, RT_STRUCTURE_SET,
    *(STORAGE + number for number in (
        "1", "1.1", "1.2", "3.1", "6.1", "6.2", "7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.1.1",
        "12.2", "12.2.1", "13.1.1", "13.1.2", "13.1.3", "88.22", "88.33", "481.1",
    )),
)  # fmt: skip


def find_contexts() -> list[Any]:
    """For searching."""
    from pynetdicom import build_context

    return [build_context(FIND)]


def get_contexts(classes: Iterable[str]) -> tuple[list[Any], list[Any]]:
    """For C-GET: contexts, and the roles by which the archive may store here (PS3.7 D.3.3.4).

    Args:
        classes: SOP classes of what is fetched; without one, the usual ones are proposed.
    """
    from pynetdicom import build_context, build_role

    known = sorted(filter(None, classes)) or list(_USUAL)
    known = known[: _MOST // 2]
    groups = [[uid] for uid in _ORDER]
    if len(known) * len(groups) > _MOST:
        groups = [list(_NATIVE), [uid for uid in _ORDER if uid not in _NATIVE]]
    storage = [build_context(one, group) for one in known for group in groups]
    return [build_context(GET), *storage], [build_role(one, scp_role=True) for one in known]


def store_contexts() -> list[Any]:
    """For what is received after C-MOVE: all classes in all syntaxes that can be read."""
    from pynetdicom import AllStoragePresentationContexts, build_context

    classes = dict.fromkeys(str(one.abstract_syntax) for one in AllStoragePresentationContexts)
    return [build_context(one, list(_ORDER)) for one in dict.fromkeys((*classes, *_USUAL))]
