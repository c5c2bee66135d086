"""The API as a page: made here from the OpenAPI description, with no script and no other server."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color-scheme: light dark; }
code { font-size: 0.95em; } dt { margin-top: 1rem; } dd { margin-left: 2rem; }
"""


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Every route, with what it takes and gives."""
    tree = request.app.openapi()
    parts = [
        _operation(path, method, operation)
        for path, methods in tree["paths"].items()
        for method, operation in methods.items()
    ]
    title = escape(f"{tree['info']['title']} {tree['info']['version']}")
    return HTMLResponse(
        f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{escape(tree['info']['description'])}</p>"
        f'<p>For programs: <a href="/openapi.json">openapi.json</a></p><dl>{"".join(parts)}</dl>'
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    text = operation.get("description") or operation.get("summary", "")
    lines = [f"<dt><code>{method.upper()} {escape(path)}</code></dt><dd>{escape(text)}"]
    items = [
        (parameter["name"], parameter["in"], parameter.get("description", ""))
        for parameter in operation.get("parameters", ())
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        for name, field in content.get("schema", {}).get("properties", {}).items():
            items.append((name, kind, field.get("description", "")))
    if items:
        rows = "".join(
            f"<li><code>{escape(name)}</code> ({escape(place)}) {escape(explained)}</li>"
            for name, place, explained in items
        )
        lines.append(f"<ul>{rows}</ul>")
    statuses = ", ".join(escape(status) for status in operation.get("responses", {}))
    lines.append(f"<p>Answers: {statuses}</p></dd>")
    return "".join(lines)
