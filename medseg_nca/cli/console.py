"""The output of all commands: two consoles, tables, and the log.

A terminal gets colours, and lines that fit its width. A file or another program gets whole lines:
nothing is wrapped or cut, so that paths stay usable and each record of the log is one line.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Width of a console that is no terminal: more columns than any line has, so that none is wrapped.
_UNLIMITED = 1_000_000
_HANDLER = "medseg_nca.cli"

log = logging.getLogger(__name__)


def make_console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error."""
    from rich.console import Console

    if is_terminal(stderr):
        return Console(stderr=stderr, highlight=False)
    return Console(stderr=stderr, highlight=False, width=_UNLIMITED, force_terminal=False)


def print_table(table: Table) -> None:
    """Print a table on standard output.

    If standard output is no terminal, title and caption are printed as lines of their own, because
    rich would wrap them to the width of the table.
    """
    console = make_console()
    if is_terminal(stderr=False):
        console.print(table)
        return
    title, table.title = table.title, None
    caption, table.caption = table.caption, None
    for part in (title, table, caption):
        if part is not None:
            console.print(part)


def announce(text: str) -> None:
    """Tell what the command is going to do, before imports that take seconds.

    The text is a line of the log: it goes to standard error, and ``--quiet`` hides it.
    """
    log.info("%s", text)


def set_up_logging(level: int) -> None:
    """Send records of the package's log of at least this level to standard error."""
    handler = _terminal_handler(level) if is_terminal(stderr=True) else _plain_handler()
    handler.set_name(_HANDLER)
    package = logging.getLogger("medseg_nca")
    package.handlers = [h for h in package.handlers if h.get_name() != _HANDLER]
    package.addHandler(handler)
    package.setLevel(level)


def is_terminal(stderr: bool) -> bool:
    """Return whether a stream is a terminal; rich would say so of a file under FORCE_COLOR."""
    stream = sys.stderr if stderr else sys.stdout
    return stream.isatty()


def _terminal_handler(level: int) -> logging.Handler:
    from rich.logging import RichHandler

    handler = RichHandler(
        console=make_console(stderr=True),
        show_path=level <= logging.DEBUG,
        log_time_format="%X",
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def _plain_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-8s %(message)s", "%H:%M:%S"))
    return handler


class _OneLine(logging.Formatter):
    """Formats each record as one line, even if a file's name has line breaks; tracebacks follow."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        if record.levelno > logging.DEBUG:
            record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)
