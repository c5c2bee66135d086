"""Nearest-name suggestions for messages about unknown keys, models and formats."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is spelled most like ``word``, or None if no word is similar."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """Return a message: "Unknown KIND 'WORD'", the nearest known word if any, and all known."""
    names = sorted(known)
    guess = nearest(word, names)
    question = f"; did you mean {guess!r}?" if guess else "."
    return f"Unknown {kind} {word!r}{question} Known: {', '.join(names)}."
