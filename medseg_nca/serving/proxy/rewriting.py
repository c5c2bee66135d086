"""Addresses in answers of a DICOMweb server, which its clients may not reach, become ours.

RetrieveURL and BulkDataURI name the server as it sees itself: an address inside the hospital, or a
wrong one (Orthanc behind another server). Both are replaced by the path of the same resource here,
while the answer flows through.
"""

from __future__ import annotations

import re

# An address that begins a string of JSON or a value of XML, up to the resource that it names.
_ADDRESS = re.compile(rb"""(["'>])https?:\\?/\\?/[^"'<>\s]{1,2000}?\\?/studies\\?/(?=[0-9])""")
_BEGINS = (b'"', b"'", b">")
_LONGEST = 2100


class AddressRewriter:
    """Replaces the part before ``/studies/UID`` of every address.

    Args:
        root: path that takes its place, for example "/proxy/dicom/wado".
    """

    def __init__(self, root: str) -> None:
        self._new = b"\\1" + root.encode("ascii") + b"/studies/"
        self._kept = b""

    def feed(self, block: bytes) -> bytes:
        """Take the next piece of an answer; returns what of it is complete."""
        content = _ADDRESS.sub(self._new, self._kept + block)
        # What follows the last delimiter may be the first half of an address.
        cut = max(content.rfind(mark) for mark in _BEGINS)
        if cut < 0 or len(content) - cut > _LONGEST:
            cut = len(content)
        self._kept = content[cut:]
        return content[:cut]

    def end(self) -> bytes:
        """What is left."""
        content, self._kept = self._kept, b""
        return content
