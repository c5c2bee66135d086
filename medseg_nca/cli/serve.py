"""``medseg-nca serve``."""

from __future__ import annotations

from pathlib import Path

import click

from medseg_nca.cli.console import announce
from medseg_nca.cli.options import FOLDER, POSITIVE, tracking_option

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "--models", required=True, multiple=True, metavar="MODEL[,MODEL...]",
    help="NAME@ALIAS of the registry (followed when the alias moves), zoo:NAME, "
    "models:/NAME/VERSION or a folder; SERVED=MODEL gives it a name.",
)  # fmt: skip
@click.option(
    "--studies", metavar="DIR|URL",
    help="Images that clients may name: a folder, or the address of a DICOMweb server.",
)  # fmt: skip
@click.option(
    "--dicomweb-auth", type=_FILE,
    help='File with {"username": ..., "password": ...} or {"token": ...} for that server; without '
    "it MEDSEG_NCA_DICOMWEB_USER and _PASSWORD, or _TOKEN, of the environment.",
)  # fmt: skip
@click.option("--dicomweb-ca", type=_FILE, help="Certificates (PEM) that signed that server's own.")
@click.option(
    "--dicomweb-timeout", type=POSITIVE, default=30.0, show_default=True,
    help="Seconds without a byte from that server after which it is given up.",
)  # fmt: skip
@click.option(
    "--dicomweb-insecure", is_flag=True,
    help="Let passwords and images go to that server without TLS, in a network you trust.",
)  # fmt: skip
@click.option(
    "--ohif", type=FOLDER,
    help="Folder with a build of the OHIF viewer; /ohif/ shows the images of that server.",
)  # fmt: skip
@click.option(
    "--store", is_flag=True,
    help="Store DICOM results in that server too, where a job does not say.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
    help="0 takes any that is free.",
)  # fmt: skip
@click.option("--users", type=_FILE, help="File of users (`medseg-nca user add`).")
@click.option("--tls-cert", type=_FILE, help="Certificate chain, PEM.")
@click.option("--tls-key", type=_FILE, help="Key of the certificate, PEM.")
@click.option(
    "--insecure", is_flag=True,
    help="Let other machines in without users or without TLS, behind a proxy that does both.",
)  # fmt: skip
@click.option(
    "--state", type=FOLDER, default="serving", show_default=True,
    help="Folder of jobs, results, labels and the audit log.",
)  # fmt: skip
@click.option(
    "--max-body",
    type=POSITIVE,
    default=512.0,
    show_default=True,
    help="Of a request, in 10^6 bytes.",
)
@click.option(
    "--max-voxels", type=POSITIVE, default=200.0, show_default=True,
    help="Of an image, in 10^6 voxels.",
)  # fmt: skip
@click.option(
    "--queue", type=click.IntRange(min=1), default=16, show_default=True,
    help="Jobs that may wait; more are refused with 503.",
)  # fmt: skip
@click.option(
    "--deadline",
    type=POSITIVE,
    default=600.0,
    show_default=True,
    help="Seconds that a job may run.",
)
@click.option(
    "--keep-days", type=POSITIVE, default=7.0, show_default=True, help="How long results are kept."
)
@click.option(
    "--keep-gb", type=POSITIVE, default=20.0, show_default=True,
    help="Of all results, in 10^9 bytes; the oldest go first.",
)  # fmt: skip
@click.option(
    "--device", "devices", default="auto", show_default=True, metavar="auto|cpu|cuda:N[,...]",
    help="Where to compute; each has worker processes of its own.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True,
    help="Worker processes for each device; they share the cores.",
)  # fmt: skip
@tracking_option
def serve(
    models: tuple[str, ...],
    studies: str | None,
    dicomweb_auth: Path | None,
    dicomweb_ca: Path | None,
    dicomweb_timeout: float,
    dicomweb_insecure: bool,
    ohif: Path | None,
    store: bool,
    host: str,
    port: int,
    users: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure: bool,
    state: Path,
    max_body: float,
    max_voxels: float,
    queue: int,
    deadline: float,
    keep_days: float,
    keep_gb: float,
    devices: str,
    workers: int,
    tracking_uri: str | None,
) -> None:
    """Serve models over HTTP: to 3D Slicer, other clients of MONAI Label, and programs.

    GET /docs on the server lists all requests. Ctrl-C or SIGTERM stops it: what is computed is
    finished first, and what waits is computed after the next start.
    """
    _check_packages()
    announce(f"Starting to serve {', '.join(models)}.")
    from medseg_nca.io.dicomweb.server import DicomWebServer, is_address
    from medseg_nca.serving.server import serve as run
    from medseg_nca.serving.settings import Limits, ServeSettings

    limits = Limits(
        body_bytes=int(max_body * 1e6), voxels=int(max_voxels * 1e6), queue=queue,
        deadline=deadline, job_age=keep_days * 86400, kept_bytes=int(keep_gb * 1e9),
    )  # fmt: skip
    folder, pacs = None if studies is None else Path(studies), None
    if studies is not None and is_address(studies):
        folder = None
        pacs = DicomWebServer(studies, dicomweb_auth, dicomweb_ca, dicomweb_timeout)
    settings = ServeSettings(
        models=models, state=state.absolute(), studies=folder, pacs=pacs,
        pacs_insecure=dicomweb_insecure, store=store, host=host, port=port, users=users,
        tls_cert=tls_cert, tls_key=tls_key, insecure=insecure,
        devices=tuple(part.strip() for part in devices.split(",") if part.strip()),
        workers=workers, tracking_uri=tracking_uri, limits=limits,
        ohif=ohif,
    )  # fmt: skip
    run(settings, lambda url: click.echo(f"Listening on {url}"))


def _check_packages() -> None:
    from importlib.util import find_spec

    from medseg_nca.errors import DependencyError

    for package in ("fastapi", "httpx", "uvicorn", "python_multipart"):
        if find_spec(package) is None:
            raise DependencyError(
                f"Serving needs the package {package}, which is not installed.",
                hint="pip install 'medseg-nca[serve]'",
            )
