"""Settings of a server: what it serves, where it keeps its state, and its limits.

One field of :class:`ServeSettings` is one setting everywhere: ``max_body`` is ``--max-body`` on the
command line, ``MEDSEG_SERVE_MAX_BODY`` in the environment and ``max_body`` in a settings file.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from medseg_nca.config.base import Settings
from medseg_nca.config.engines import AUTO, ENGINES
from medseg_nca.config.sources import FOLDER, AlsoFrom, Metavar, PathSetting, beside
from medseg_nca.errors import ConfigError
from medseg_nca.io.dicomweb.server import DicomWebServer, is_address

MEGABYTE, GIGABYTE = 10**6, 10**9
ENVIRONMENT = "MEDSEG_SERVE_"


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
        delivery: seconds after which results that cannot be delivered are given up.
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
    delivery: float = 86400.0


def _words(value: Any) -> Any:
    """A text or a list of texts, each with words between commas."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        return value
    return tuple(word.strip() for text in texts for word in text.split(",") if word.strip())


def _models(value: Any, info: ValidationInfo) -> Any:
    """A model may be a folder beside the settings file."""
    words, folder = _words(value), (info.context or {}).get(FOLDER)
    if folder is None or not isinstance(words, tuple):
        return words
    found = []
    for word in words:
        name, equals, reference = word.rpartition("=")
        beside = folder / reference
        found.append(f"{name}{equals}{beside if beside.is_dir() else reference}")
    return tuple(found)


def _studies(value: Any, info: ValidationInfo) -> Any:
    """An address stays as it is; a folder is found as every path is."""
    return value if value is None or is_address(str(value)) else str(beside(value, info))


def _network(address: str) -> str:
    try:
        network = ipaddress.ip_network(address)
    except ValueError as error:
        raise ValueError(
            f"{address!r} is no address and no network: write for example 10.0.0.2 or 10.0.0.0/24"
        ) from error
    if network.prefixlen == 0:
        raise ValueError(f"{address} would believe everybody: name the proxy")
    return address


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Acceptable = Annotated[float, Field(gt=0, lt=1)]
MissRate = Annotated[float, Field(gt=0, lt=0.5)]


class WorkSettings(Settings):
    """What all that computes jobs is told: the HTTP server and the DICOM node."""

    max_voxels: Positive = Field(200.0, description="Of an image, in 10^6 voxels.")
    queue: Count = Field(
        16,
        description="Jobs that may wait; more are refused with 503, and series of the node wait.",
    )
    deadline: Positive = Field(600.0, description="Seconds that a job may run.")
    keep_gb: Positive = Field(
        20.0, description="Of all results, in 10^9 bytes; the oldest go first."
    )
    deliver_hours: Positive = Field(
        72.0, description="How long it is tried to deliver results to where they are to be stored."
    )
    device: Annotated[Words, Field(min_length=1), Metavar("auto|cpu|cuda:N[,...]")] = Field(
        ("auto",), description="Where to compute; each has worker processes of its own."
    )
    workers: Count = Field(1, description="Worker processes for each device; they share the cores.")
    engine: Annotated[str, Metavar("NAME")] = Field(
        AUTO,
        description="Who computes the automata of all models; auto takes the fastest that can.",
    )
    tracking_uri: Annotated[str | None, AlsoFrom("MLFLOW_TRACKING_URI"), Metavar("URI")] = Field(
        None,
        description="MLflow tracking store, for example sqlite:///mlflow.db or http://host:5000.",
    )
    acceptable: Annotated[Acceptable | None, Metavar("DICE")] = Field(
        None,
        description="Dice below which a mask counts as bad, for the verdict on it; the model's own "
        "setting if not given.",
    )
    miss_rate: Annotated[MissRate | None, Metavar("SHARE")] = Field(
        None,
        description="Share of bad masks that may be accepted, and of good ones that may be "
        "rejected; the model's own setting if not given.",
    )
    poll: Positive = Field(
        2.0, description="Seconds between two looks at where an alias of the registry points."
    )
    dicomweb_auth: PathSetting | None = Field(
        None,
        description='File with {"username": ..., "password": ...} or {"token": ...} for that '
        "server; without it MEDSEG_NCA_DICOMWEB_USER and _PASSWORD, or _TOKEN, of the environment.",
    )
    dicomweb_ca: PathSetting | None = Field(
        None, description="Certificates (PEM) that signed the certificate of the DICOMweb server."
    )
    dicomweb_timeout: Positive = Field(
        30.0,
        description="Seconds without a byte from the DICOMweb server after which it is given up.",
    )
    dicomweb_insecure: bool = Field(
        False,
        description="Let passwords and images go to the DICOMweb server without TLS, in a network "
        "you trust.",
    )


class ServeSettings(WorkSettings):
    """One server; the descriptions of the fields are the help of the command."""

    models: Annotated[tuple[str, ...], BeforeValidator(_models),
                      Metavar("MODEL[,MODEL...]")] = Field(
        (),
        description="NAME@ALIAS of the registry (followed when the alias moves), zoo:NAME, "
        "models:/NAME/VERSION or a folder; SERVED=MODEL gives it a name.",
    )  # fmt: skip
    studies: Annotated[str | None, BeforeValidator(_studies), Metavar("DIR|URL")] = Field(
        None,
        description="Images that clients may name: a folder, or the address of a DICOMweb server.",
    )
    ohif: PathSetting | None = Field(
        None,
        description="Folder with a build of the OHIF viewer; /ohif/ shows the images of that "
        "server.",
    )
    node: PathSetting | None = Field(
        None, description="Settings file of a DICOM node that runs in this process, too."
    )
    store: bool = Field(
        False, description="Store DICOM results in that server too, where a job does not say."
    )
    fetch_seconds: Positive = Field(
        600.0, description="Seconds that fetching one series from that server may take."
    )
    cache_gb: Positive = Field(
        10.0, description="Of all copies of series from that server, in 10^9 bytes."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="0 takes any that is free.")
    users: PathSetting | None = Field(None, description="File of users (`medseg-nca user add`).")
    tls_cert: PathSetting | None = Field(None, description="Certificate chain, PEM.")
    tls_key: PathSetting | None = Field(None, description="Key of the certificate, PEM.")
    insecure: bool = Field(
        False,
        description="Let other machines in without users or without TLS, behind a proxy that does "
        "both.",
    )
    trust_proxy: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...],
                           BeforeValidator(_words), Metavar("ADDRESS[,ADDRESS...]")] = Field(
        (),
        description="Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto "
        "are believed.",
    )  # fmt: skip
    state: PathSetting = Field(
        Path("serving"), description="Folder of jobs, results, labels and the audit log."
    )
    max_body: Positive = Field(512.0, description="Of a request, in 10^6 bytes.")
    max_parts: Count = Field(16, description="Files, and other fields, of one form.")
    max_inflated: Positive = Field(4000.0, description="Of an archive, unpacked, in 10^6 bytes.")
    max_members: Count = Field(5000, description="Files of an archive.")
    header_seconds: Positive = Field(
        10.0, description="Seconds within which the headers of a request have to come."
    )
    keep_days: Positive = Field(7.0, description="How long results are kept.")
    session_hours: Positive = Field(
        1.0, description="How long an image of a session is kept after its last use."
    )
    token_hours: Positive = Field(12.0, description="How long a login is good for.")

    @property
    def limits(self) -> Limits:
        """What a client may ask for, in bytes, voxels and seconds."""
        return Limits(
            body_bytes=int(self.max_body * MEGABYTE), parts=self.max_parts,
            voxels=int(self.max_voxels * MEGABYTE),
            inflated_bytes=int(self.max_inflated * MEGABYTE), members=self.max_members,
            queue=self.queue, deadline=self.deadline, job_age=self.keep_days * 86400,
            kept_bytes=int(self.keep_gb * GIGABYTE), session_age=self.session_hours * 3600,
            token_age=self.token_hours * 3600, fetch=self.fetch_seconds,
            cached_bytes=int(self.cache_gb * GIGABYTE), delivery=self.deliver_hours * 3600,
        )  # fmt: skip

    @property
    def folder(self) -> Path | None:
        """Folder with images that clients may name; None without one."""
        return None if self.studies is None or is_address(self.studies) else Path(self.studies)

    @property
    def pacs(self) -> DicomWebServer | None:
        """DICOMweb server with such images, in the place of a folder; None without one.

        Raises:
            ConfigError: if it cannot have that address.
        """
        if self.studies is None or not is_address(self.studies):
            return None
        return DicomWebServer(
            self.studies, self.dicomweb_auth, self.dicomweb_ca, self.dicomweb_timeout
        )

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.tls_cert is not None

    def check(self) -> None:
        """Refuse what cannot be served.

        Raises:
            ConfigError: naming the setting.
        """
        self.check_together()
        if not self.models and self.node is None:
            raise ConfigError("No model is named.", hint="For example: --models zoo:hippocampus")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError(
                "TLS needs a certificate and its key.", hint="Give --tls-cert and --tls-key."
            )
        for name, path in (
            ("--studies", self.folder), ("--users", self.users), ("--node", self.node),
            ("--tls-cert", self.tls_cert), ("--tls-key", self.tls_key),
        ):  # fmt: skip
            if path is not None and not path.exists():
                raise ConfigError(f"{name}: there is no {path}.", hint=_HINTS.get(name))

    def check_together(self) -> None:
        """Refuse settings that exclude each other, and an engine that there is not.

        Raises:
            ConfigError: naming the setting.
        """
        ENGINES.check(self.engine)
        if self.ohif is not None and self.pacs is None:
            raise ConfigError(
                "--ohif: the viewer shows images of a DICOMweb server, and none is named.",
                hint="Give its address: --studies https://HOST/dicom-web",
            )
        if self.store and self.pacs is None:
            raise ConfigError(
                "--store: there is no DICOMweb server to store in.",
                hint="Name one: --studies https://HOST/dicom-web",
            )


_HINTS = {
    "--users": "Make it with `medseg-nca user add NAME --users FILE`.",
    "--studies": "Name a folder with images.",
}
