"""Which resources of a DICOMweb server may be asked for: those of PS3.18 chapter 10, and no more.

A path is taken only if it is one of them from its first to its last letter, so that no ``..``, no
other host and no function of the server beyond DICOMweb can be reached.
"""

from __future__ import annotations

import re

from medseg_nca.serving.errors import Refused

SERVICES = ("qido", "wado", "stow")
# OHIF searches and retrieves under the names of both services, and stores under that of retrieval.
_BY_METHOD = {"GET": ("qido", "wado"), "POST": ("stow", "wado")}
_LONGEST_UID = 64  # PS3.5 section 9
_LONGEST_PATH, _LONGEST_QUERY = 4096, 8192

_UID = r"[0-9]+(?:\.[0-9]+)*"
_STUDY = rf"studies/{_UID}"
_SERIES = rf"{_STUDY}/series/{_UID}"
_INSTANCE = rf"{_SERIES}/instances/{_UID}"
_FRAMES = rf"{_INSTANCE}/frames/[0-9]+(?:,[0-9]+)*"
# A tag, or an item of a sequence and a tag in it; how a server names it is left to the server.
_BULK = r"(?:bulk|bulkdata)(?:/[0-9A-Za-z]+)+"
_SEARCH = re.compile(
    rf"studies|series|instances|{_STUDY}/series|{_STUDY}/instances|{_SERIES}/instances"
)
_RETRIEVE = re.compile(
    rf"(?:{_STUDY}|{_SERIES}|{_INSTANCE})(?:/(?:metadata|rendered|thumbnail|{_BULK}))?"
    rf"|{_FRAMES}(?:/(?:rendered|thumbnail))?"
)
_STORE = re.compile(rf"studies|{_STUDY}")


def resource_of(service: str, method: str, path: str, query: str) -> str:
    """The resource that a request names, relative to the root of the DICOMweb server.

    Args:
        service: "qido", "wado" or "stow".
        method: "GET" to search and retrieve, "POST" to store.
        path: behind the name of the service, percent signs decoded.
        query: of the address, as it was sent.

    Raises:
        Refused: with 400 if the query holds letters that an address may not have, 404 if it is none
            that may be asked for, 405 if the service does not do it, 414 if the address is too
            long.
    """
    if len(path) > _LONGEST_PATH or len(query) > _LONGEST_QUERY:
        raise Refused(414, f"The address has more than {_LONGEST_QUERY:,} letters.")
    if not (query.isascii() and query.isprintable()):
        raise Refused(400, "The query of the address holds letters that are not encoded.")
    path = path.removesuffix("/")
    kinds = (_STORE,) if method == "POST" else (_SEARCH, _RETRIEVE)
    long = any(len(part) > _LONGEST_UID for part in path.split("/") if "," not in part)
    known = service in SERVICES and any(kind.fullmatch(path) for kind in kinds)
    if long or not known:
        raise Refused(
            404, "There is no such DICOMweb resource.",
            hint="Search, retrieve and store as PS3.18 chapter 10 says: studies, series, "
            "instances, frames, metadata, rendered, thumbnail, bulk data.",
        )  # fmt: skip
    if service not in _BY_METHOD[method]:
        raise Refused(405, f"{service} does not take {method}.")
    return path
