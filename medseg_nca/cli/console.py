"""Where everything that the commands show goes through: two consoles, tables, and the log.

A terminal gets lines that fit its width, with colours. A file or another program gets each line
whole: nothing is wrapped or cut, so that paths stay usable and a record of the log is one line.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Columns of what is no terminal: more than any line has, so that none is wrapped.
_UNLIMITED = 1_000_000
_HANDLER = "medseg_nca.cli"

log = logging.getLogger(__name__)


def make_console(*, stderr: bool = False) -> Console:
    """A console on standard output, or on standard error."""
    from rich.console import Console

    if is_terminal(stderr):
        return Console(stderr=stderr, highlight=False)
    return Console(stderr=stderr, highlight=False, width=_UNLIMITED, force_terminal=False)


def print_table(table: Table) -> None:
    """Print a table on standard output.

    Where that is no terminal, title and caption are lines of their own: rich would wrap them to the
    width of the table.
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
    """Say what is going to be done, before seconds pass with importing what does it.

    A line of the log: on standard error, and not with ``--quiet``.
    """
    log.info("%s", text)


def set_up_logging(level: int) -> None:
    """Send the package's log from that level on to standard error."""
    handler = _terminal_handler(level) if is_terminal(stderr=True) else _plain_handler()
    handler.set_name(_HANDLER)
    package = logging.getLogger("medseg_nca")
    package.handlers = [h for h in package.handlers if h.get_name() != _HANDLER]
    package.addHandler(handler)
    package.setLevel(level)


def is_terminal(stderr: bool) -> bool:
    """Asked of the stream itself: FORCE_COLOR makes rich take a file for a terminal."""
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
    """A record is one line, whatever a file is called; only a traceback has several."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        if record.levelno > logging.DEBUG:
            record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)
