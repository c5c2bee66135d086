"""Nearest-name suggestions for messages about unknown keys, models and formats."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that looks most like ``word``, or None when none comes near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """Return "unknown KIND 'WORD'", the nearest known word if there is one, and the choices."""
    names = sorted(known)
    guess = nearest(word, names)
    question = f"; did you mean {guess!r}?" if guess else "."
    return f"Unknown {kind} {word!r}{question} Known: {', '.join(names)}."
