"""``medseg-nca dicom echo``: test the connection to a DICOM application."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import json_option, print_json

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False)
# What this side calls itself where nothing is said.
CALLING = "MEDSEG"


def association_options(function: F) -> F:
    """Add the options of every command that opens an association."""
    for option in reversed((
        click.option(
            "--calling", metavar="AET", default=CALLING, show_default=True,
            help="AE title of this side, which the other side must know.",
        ),
        click.option(
            "--tls-ca", type=_FILE,
            help="Certificates, PEM, that the other side's is checked against; it turns TLS on.",
        ),
        click.option(
            "--tls-cert", type=_FILE, help="Certificate of this side, PEM; it turns TLS on."
        ),
        click.option("--tls-key", type=_FILE, help="Key of that certificate, PEM, no password."),
        click.option(
            "--timeout", metavar="SECONDS", type=click.FloatRange(min=0.1), default=30.0,
            show_default=True, help="After which a side that does nothing is given up.",
        ),
    )):  # fmt: skip
        function = option(function)
    return function


@click.command(short_help="Test the connection to a DICOM application (C-ECHO).")
@click.argument("peer", metavar="AET@HOST:PORT")
@association_options
@json_option
def echo(
    peer: str,
    calling: str,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask the DICOM application AET@HOST:PORT for an echo, and say what worked or why it did not.

    TLS is used where one of its files is named. The exit code is 2 if there is no good answer.
    """
    announce(f"Asking {peer} for an echo.")
    from medseg_nca.io.dimse.address import parse_address
    from medseg_nca.io.dimse.echo import echo as ask
    from medseg_nca.io.dimse.errors import DimseError
    from medseg_nca.io.dimse.tls import DimseTls

    address = parse_address(peer)
    tls = DimseTls(tls_ca, tls_cert, tls_key) if tls_ca or tls_cert or tls_key else None
    told = {"peer": str(address), "calling": calling, "tls": tls is not None}
    try:
        seconds = ask(address, calling, tls, timeout)
    except DimseError as error:
        if as_json:
            why = {"trouble": error.trouble, "message": error.message, "hint": error.hint}
            print_json({**told, "answers": False, **why})
        raise
    if as_json:
        print_json({**told, "answers": True, "seconds": round(seconds, 3)})
        return
    over = " over TLS" if tls else ""
    click.echo(f"{address}: answers the echo of {calling}{over} ({seconds:.2f} s).")
    click.echo(
        "Whether it also takes objects or searches of this AE title is its own setting.", err=True
    )
