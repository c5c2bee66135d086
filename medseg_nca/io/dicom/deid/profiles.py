"""ICC profiles (ISO 15076-1): when they were made, and the texts in them."""

from __future__ import annotations

import re
from collections.abc import Callable

# Date and time of the profile; the checksum that its header has of itself.
_MADE = slice(24, 36)
_CHECKSUM = slice(84, 100)
_HEADER = 128
_LATIN = re.compile(rb"[\x20-\x7e\x80-\xff]{4,}")
_WIDE = re.compile(rb"(?:[\x20-\x7e\xa0-\xff]\x00|\x00[\x20-\x7e\xa0-\xff]){3,}")


def clean_profile(profile: bytes, names: Callable[[str], bool]) -> bytes | None:
    """Return a profile without its date and what stands behind it.

    None if a text in it names someone, or if it is damaged.

    Args:
        profile: the value of an ICCProfile element.
        names: tells whether a text names someone.
    """
    if len(profile) < _HEADER:
        return None
    size = int.from_bytes(profile[:4])
    if not _HEADER <= size <= len(profile):
        return None
    result = bytearray(profile[:size] + b"\0" * (size % 2))
    result[_MADE] = bytes(12)
    result[_CHECKSUM] = bytes(16)  # zero: not computed
    texts = [match[0].decode("latin-1") for match in _LATIN.finditer(result)]
    texts += [match[0].replace(b"\0", b"").decode("latin-1") for match in _WIDE.finditer(result)]
    if any(len(re.findall(r"[A-Za-z]", text)) >= 3 and names(text) for text in texts):
        return None
    return bytes(result)
