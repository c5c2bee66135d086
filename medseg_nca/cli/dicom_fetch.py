"""``medseg-nca dicom fetch``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import FOLDER, POSITIVE, json_option, keeping_cases, print_json

if TYPE_CHECKING:
    from medseg_nca.io.dicom.remote import Archive
    from medseg_nca.pipelines.dicom_fetch import FetchReport

_FILE = click.Path(path_type=Path, dir_okay=False)
_ONLY_WEB = ("dicomweb_auth", "dicomweb_ca")
_ONLY_DIMSE = ("move_port", "tls_ca", "tls_cert", "tls_key")


@click.command(short_help="Fetch series from an archive into a folder.")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="URL|AET@HOST:PORT",
    help="The archive: the address of its DICOMweb, or its AE title, host and port.",
)
@click.option(
    "--select",
    metavar="CONDITIONS",
    help="Which series, for example 'PatientID=1234,Modality=MR,SeriesDescription~Hippo'.",
)
@click.option("--all", "everything", is_flag=True, help="Allow to select all of the archive.")
@click.option("--out", type=FOLDER, help="Folder for the series: new, or of an earlier fetch.")
@click.option("--dry-run", is_flag=True, help="List what is selected, and fetch nothing.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Fetch nothing if more series are selected.",
)
@click.option(
    "--max-gb", type=POSITIVE, default=50.0, show_default=True, help="Most gigabytes of one run."
)
@click.option(
    "--timeout",
    type=POSITIVE,
    default=30.0,
    show_default=True,
    help="Seconds without a byte after which the archive is given up.",
)
@click.option("--dicomweb-auth", type=_FILE, help="File with user and password, or token, JSON.")
@click.option("--dicomweb-ca", type=_FILE, help="Certificates, PEM, that a server is checked by.")
@click.option(
    "--calling",
    metavar="AET",
    default="MEDSEG_NCA",
    show_default=True,
    help="AE title of this side; archives know their callers by it.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "get", "move"]),
    default="auto",
    show_default=True,
    help="C-GET, or C-MOVE to --move-port; auto takes C-MOVE where the archive has no C-GET.",
)
@click.option(
    "--move-port",
    type=click.IntRange(0, 65535),
    help="Port that receives by C-MOVE; the archive knows it as that of --calling.",
)
@click.option("--tls-ca", type=_FILE, help="Certificates, PEM, that a DIMSE archive is checked by.")
@click.option("--tls-cert", type=_FILE, help="Certificate of this side for DIMSE by TLS, PEM.")
@click.option("--tls-key", type=_FILE, help="Key of that certificate, PEM.")
@json_option
def fetch(
    source: str,
    select: str | None,
    everything: bool,
    out: Path | None,
    dry_run: bool,
    limit: int,
    max_gb: float,
    as_json: bool,
    **how: Any,
) -> None:
    """Fetch series from an archive, by DICOMweb or by C-FIND and C-GET or C-MOVE.

    The folder is one that `dicom import`, `dicom scan` and `predict` take. The same command goes on
    after an interruption, and fetches what is missing. The exit code is 3 if a series could not be
    fetched, and 2 if none could.
    """
    if out is None and not dry_run:
        raise click.UsageError("--out is needed, or --dry-run.")
    archive = _archive(source, how)
    announce(f"Asking {archive.name}.")
    from medseg_nca.cli.dicom_show import show_fetch, show_listing
    from medseg_nca.cli.progress import ProgressBars
    from medseg_nca.pipelines import dicom_fetch as pipeline

    request = pipeline.FetchRequest(archive, select, everything, limit, int(max_gb * 1e9))
    with closing(archive):
        if dry_run:
            listing = pipeline.find(request)
            print_json(listing.to_dict()) if as_json else show_listing(listing, limit)
            return
        assert out is not None
        with keeping_cases(), ProgressBars() as bars:
            report = pipeline.run(request, out, bars.job)
    print_json(report.to_dict()) if as_json else show_fetch(report)
    _fail(report, out)


def _archive(source: str, how: dict[str, Any]) -> Archive:
    """The archive that is named; nothing is asked of it yet."""
    from medseg_nca.io.dicomweb.server import DicomWebServer, is_address

    web = is_address(source)
    wrong = [name for name in (_ONLY_DIMSE if web else _ONLY_WEB) if how[name] is not None]
    wrong += ["method"] if web and how["method"] != "auto" else []
    if wrong:
        flag, kind = wrong[0].replace("_", "-"), "URL" if web else "AET@HOST:PORT"
        raise click.UsageError(f"--{flag} does not go with --from {kind}.")
    if web:
        from medseg_nca.io.dicomweb.client import DicomWebClient

        return DicomWebClient(
            DicomWebServer(source, how["dicomweb_auth"], how["dicomweb_ca"], how["timeout"])
        )
    from medseg_nca.io.dimse.address import parse_address
    from medseg_nca.io.dimse.retrieve import DimseArchive
    from medseg_nca.io.dimse.tls import DimseTls

    files = [how[name] for name in ("tls_ca", "tls_cert", "tls_key")]
    return DimseArchive(
        parse_address(source),
        how["calling"],
        method=how["method"],
        move_port=how["move_port"],
        tls=DimseTls(*files) if any(files) else None,
        timeout=how["timeout"],
    )


def _fail(report: FetchReport, out: Path) -> None:
    """Raise the error with exit code 3 if a series failed, and with 2 if all did."""
    from medseg_nca.errors import DataError, PartialFailure

    failed = report.failed
    done = len(report.fetched) + report.there
    if not failed:
        if not done:
            raise DataError("No series is selected by its headers.", hint="Select less strictly.")
        return
    kinds = ", ".join(dict.fromkeys(one.kind for one in failed))
    text = (
        f"{len(failed)} of {done + len(failed) + report.not_selected} series not fetched ({kinds})"
    )
    if not done:
        raise DataError(f"{text}.", hint=failed[0].message)
    raise PartialFailure(
        f"{text}; each is named above.",
        hint=f"The other {done} are in {out}; the same command fetches what is missing.",
        failures={one.folder: one.message for one in failed},
    )
