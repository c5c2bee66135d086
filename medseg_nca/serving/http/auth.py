"""Logging in, as MONAI Label's clients do it, and by a cookie for the pages of this server."""

from __future__ import annotations

import math
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.http.running import COOKIE, Client, answers, reader, running, token_of

router = APIRouter(prefix="/auth", tags=["login"])
_MOST_FORM, _MOST_FIELDS = 16_384, 16
_FORM: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": {
        "type": "object",
        "required": ["username", "password"],
        "properties": {
            "username": {"type": "string"},
            "password": {"type": "string", "format": "password"},
            "grant_type": {"type": "string", "enum": ["password"]},
        },
    }}}}
}  # fmt: skip


@router.get("")
@router.get("/", include_in_schema=False)
async def enabled(request: Request) -> dict[str, Any]:
    """Say whether clients have to log in."""
    on = running(request).tokens is not None
    return {"enabled": on, "client_id": "", "realm": "medseg_nca" if on else ""}


@router.post("/token", openapi_extra=_FORM, responses=answers(404, 413, 422, 429))
async def log_in(request: Request) -> JSONResponse:
    """Give a bearer token for a name and a password."""
    server = running(request)
    if server.tokens is None or server.users is None or server.desk is None:
        raise Refused(404, "This server has no users; nobody has to log in.")
    form = await _small_form(request)
    name, password = form.get("username", "").strip()[:64], form.get("password", "")
    if not name or not password:
        raise Refused(422, "A username and a password are needed.")
    address = request.client.host if request.client else ""
    wait = server.logins.begin(name, address)
    if wait > 0:
        server.metrics.count("logins_total", outcome="limited")
        raise Refused(429, "Too many wrong passwords.", retry_after=math.ceil(wait))
    try:
        user = await server.desk.check(name, password)
    except Refused:  # it was not looked at
        server.logins.undo(name, address)
        server.metrics.count("logins_total", outcome="limited")
        raise
    if user is None:
        known = await run_in_threadpool(server.users.get, name)
        server.metrics.count("logins_total", outcome="refused")
        user_name = "unknown" if known is None else name
        await run_in_threadpool(server.audit.write, "login", user=user_name, outcome="refused")
        raise Refused(401, "Name or password is wrong.")
    server.logins.undo(name, address)
    token = await run_in_threadpool(server.tokens.issue, user)
    server.metrics.count("logins_total", outcome="done")
    await run_in_threadpool(server.audit.write, "login", user=user.name, outcome="done")
    age = int(server.settings.limits.token_age)
    answer = JSONResponse({"access_token": token, "token_type": "bearer", "expires_in": age})
    # The scheme is that of the client where a trusted proxy told it.
    secure = server.settings.tls or request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, max_age=age, httponly=True, samesite="strict", secure=secure)
    return answer


async def _small_form(request: Request) -> dict[str, str]:
    """Fields of a form without files; nobody has logged in yet, so that little is taken.

    Raises:
        Refused: with 413 if it is large, 422 if it is of another kind.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(422, "Send username and password as application/x-www-form-urlencoded.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_FORM:
            raise Refused(413, f"A login has more than {_MOST_FORM:,} bytes.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Refused(422, "The form cannot be read.") from None


@router.get("/token/valid", responses=answers())
async def valid(client: Annotated[Client, Depends(reader)]) -> dict[str, str]:
    """Answer 200 for a token that is good."""
    return {"user": client.name}


@router.post("/logout", responses=answers())
async def log_out(request: Request, client: Annotated[Client, Depends(reader)]) -> JSONResponse:
    """Make the token of this request good for nothing."""
    server, token = running(request), token_of(request)
    if server.tokens is not None and token is not None:
        await run_in_threadpool(server.tokens.revoke, token)
        await run_in_threadpool(server.audit.write, "login", user=client.name, outcome="logged out")
    answer = JSONResponse({})
    answer.delete_cookie(COOKIE)
    return answer
