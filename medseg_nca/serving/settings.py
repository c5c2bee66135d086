"""Settings of a server: what it serves, where it keeps its state, and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicomweb.server import DicomWebServer

MEGABYTE = 10**6


@dataclass(frozen=True)
class Limits:
    """What a client may ask for; more is refused with 413, or 503 where the queue is full.

    Attributes:
        body_bytes: of one request.
        parts: of one multipart form.
        voxels: of one image, channels not counted.
        inflated_bytes: of all members of one zip archive together.
        members: of one zip archive.
        queue: jobs that wait; those that run are not counted.
        deadline: seconds that one job may run.
        job_age: seconds that a finished job and its results are kept.
        kept_bytes: of all finished jobs together; the oldest go first.
        session_age: seconds that an image of a session is kept.
        token_age: seconds that a login is good for.
        fetch: seconds that fetching one series from a DICOMweb server may take.
        cached_bytes: of all copies of series from there; they go after ``session_age`` too.
    """

    body_bytes: int = 512 * MEGABYTE
    parts: int = 16
    voxels: int = 200_000_000
    inflated_bytes: int = 4000 * MEGABYTE
    members: int = 5000
    queue: int = 16
    deadline: float = 600.0
    job_age: float = 7 * 86400.0
    kept_bytes: int = 20_000 * MEGABYTE
    session_age: float = 3600.0
    token_age: float = 12 * 3600.0
    fetch: float = 600.0
    cached_bytes: int = 10_000 * MEGABYTE


@dataclass(frozen=True)
class ServeSettings:
    """One server.

    Attributes:
        models: names of models, see :func:`medseg_nca.serving.catalogue.parse_models`.
        state: folder of jobs, results, labels, tokens and the audit log.
        studies: folder with images that clients may name.
        pacs: DICOMweb server with such images, in the place of a folder.
        pacs_insecure: let images and credentials go to another machine there without TLS.
        store: whether results of DICOM series are stored there, where a job does not say.
        host: address to listen on.
        port: 0 takes any free one.
        users: file of users; without it everybody may do everything.
        tls_cert: certificate chain, PEM.
        tls_key: its key, PEM.
        insecure: listen beyond this machine without users or without TLS.
        devices: as :func:`medseg_nca.inference.bundle.pick_device` takes them.
        workers: processes for each device.
        tracking_uri: the store that registered models are looked up in.
        poll: seconds between two looks at where an alias points.
        limits: what a client may ask for.
        ohif: folder with a build of the OHIF viewer, which shows the images of ``pacs``.
    """

    models: tuple[str, ...]
    state: Path
    studies: Path | None = None
    pacs: DicomWebServer | None = None
    pacs_insecure: bool = False
    store: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    users: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    devices: tuple[str, ...] = ("auto",)
    workers: int = 1
    tracking_uri: str | None = None
    poll: float = 2.0
    limits: Limits = field(default_factory=Limits)
    ohif: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be served.

        Raises:
            ConfigError: naming the setting.
        """
        if not self.models:
            raise ConfigError("No model is named.", hint="For example: --models zoo:hippocampus")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError(
                "TLS needs a certificate and its key.", hint="Give --tls-cert and --tls-key."
            )
        if self.studies is not None and self.pacs is not None:
            raise ConfigError("--studies: name a folder or a DICOMweb server, not both.")
        if self.ohif is not None and self.pacs is None:
            raise ConfigError(
                "--ohif: the viewer shows images of a DICOMweb server, and none is named.",
                hint="Give its address: --studies https://pacs.example/dicom-web",
            )
        if self.store and self.pacs is None:
            raise ConfigError(
                "--store: there is no DICOMweb server to store in.",
                hint="Name one: --studies https://HOST/dicom-web",
            )
        for name, path in (("--studies", self.studies), ("--users", self.users),
                           ("--tls-cert", self.tls_cert), ("--tls-key", self.tls_key)):  # fmt: skip
            if path is not None and not path.exists():
                raise ConfigError(f"{name}: there is no {path}.", hint=_HINTS.get(name))

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.tls_cert is not None


_HINTS = {
    "--users": "Make it with `medseg-nca user add NAME --users FILE`.",
    "--studies": "Name a folder with images.",
}
