"""Files and folders that appear whole or not at all.

Everything is written under a hidden name beside its place and renamed when it is complete. What a
killed process leaves behind is hidden, ends in ``.part`` before the name, and can be removed by
:func:`remove_leftovers`.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medseg_nca.errors import OutputError

# A token of eight digits, then this, then the real name, so that writers see the real suffix.
_MARK = ".part."


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file name beside ``path``; it takes the place of ``path`` on success.

    The folder is created. On any error the temporary file is removed and ``path`` stays as it was.

    Raises:
        OutputError: if it cannot be written: no space, no permission, something in the way.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary empty folder beside ``path``; it takes the place of ``path`` on success.

    A folder that is already there is replaced as a whole. On any error it stays as it was.

    Raises:
        OutputError: if it cannot be written: no space, no permission, something in the way.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        _replace_folder(temporary, path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, tree: Any) -> None:
    """Write JSON. Paths and numpy values are converted; NaN and infinity become null.

    Names of files that are no UTF-8 keep their bytes as escapes.

    Raises:
        OutputError: if it cannot be written.
    """
    text = json.dumps(_plain(tree), indent=2, ensure_ascii=False) + "\n"
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def remove_leftovers(folder: Path) -> int:
    """Remove what killed processes left half-written in ``folder``; returns how many."""
    leftovers = [p for p in folder.glob(f".*{_MARK}*") if p.name[9:].startswith(_MARK)]
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
    return len(leftovers)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}{_MARK}{path.name}")


def _replace_folder(new: Path, path: Path) -> None:
    """A folder cannot be renamed over a full one: the old one steps aside and is then removed."""
    if not path.is_dir():
        os.replace(new, path)
        return
    old = _temporary(path)
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error) or type(error).__name__
    return OutputError(
        f"{path}: cannot be written ({reason}).",
        hint="Check the free space and the permissions of the folder, or choose another one.",
    )


def _plain(value: Any) -> Any:
    """Turn a tree into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars, torch tensors
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
