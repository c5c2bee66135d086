"""Files that were opened before the answer begins, so that removing them meanwhile does no harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from fastapi.responses import Response, StreamingResponse

_BLOCK = 2**18


def streamed(file: BinaryIO, *, media_type: str, filename: str) -> Response:
    """Send an open file from its beginning, and close it.

    Args:
        file: of which nothing else is kept.
        media_type: of its content.
        filename: that the client is told, in ASCII.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)

    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{filename}"',
    }
    if size <= _BLOCK:
        with file:
            return Response(file.read(), media_type=media_type, headers=headers)

    def blocks() -> Iterator[bytes]:
        with file:
            while block := file.read(_BLOCK):
                yield block

    return StreamingResponse(blocks(), media_type=media_type, headers=headers)
