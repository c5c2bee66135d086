"""Handlers that run in the event loop leave slow work to threads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import medseg_nca.serving.http

FOLDER = Path(medseg_nca.serving.http.__file__).parent
# Parts of a server whose methods look at the disk.
SLOW = {"store", "service", "studies", "labels", "sessions", "audit", "users", "tokens"}
# These take no lock and look at no file for long.
QUICK = {"watch", "start", "name", "ready"}


def slow_calls(source: str) -> list[str]:
    """Calls like ``server.studies.get(...)`` in the body of an ``async def``."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        inner = {id(node) for child in ast.walk(function)
                 if isinstance(child, ast.FunctionDef) for node in ast.walk(child)}  # fmt: skip
        for node in ast.walk(function):
            called = node.func if isinstance(node, ast.Call) and id(node) not in inner else None
            if (
                isinstance(called, ast.Attribute)
                and isinstance(called.value, ast.Attribute)
                and called.value.attr in SLOW
                and called.attr not in QUICK
            ):
                found.append(f"{function.name}: {called.value.attr}.{called.attr}")
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_handler_blocks_the_event_loop(path: Path) -> None:
    assert slow_calls(path.read_text(encoding="utf-8")) == []


def test_a_blocking_call_would_be_found() -> None:
    assert slow_calls("async def f(s):\n    return s.studies.get(1)") == ["f: studies.get"]
    assert slow_calls("async def f(s):\n    await run(s.studies.get, 1)") == []
