"""How a file of a page is answered, and what its page may load."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.page.files import PageFile

# The viewer draws its letters from images that it holds as data: URLs, and pictures come as blob:.
# No script or style stands in the page itself, and nothing is evaluated.
POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
        "img-src 'self' data: blob:", "base-uri 'none'", "form-action 'none'",
        "frame-ancestors 'none'",
    )
)  # fmt: skip


def page_answer(request: Request, found: PageFile | None) -> Response:
    """Return the answer to a request for a file of a page.

    Raises:
        Refused: with 404 if there is no such file.
    """
    if found is None:
        raise Refused(404, "The page has no such file.")
    headers = {
        "Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": found.tag,
        "Vary": "Accept-Encoding",
    }  # fmt: skip
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    content = found.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = found.packed, "gzip"
    return Response(content, media_type=found.type, headers=headers)
