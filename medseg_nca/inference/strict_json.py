"""Read JSON from unknown sources strictly: unclear content, which others accept, is refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, Never


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: if it cannot be read.
        ValueError: if the path is no regular file (but a pipe or a device, which may never end),
            or the file is longer.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("is not a file")
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"is longer than {limit:,} bytes")
    return content


def parse_json(content: bytes) -> Any:
    """Parse UTF-8 JSON; a key that is given twice, NaN and infinities are refused.

    Raises:
        ValueError: if the content is refused; the message says what is wrong.
    """
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:50]!r} is given twice")
    return found


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is no number in JSON")
