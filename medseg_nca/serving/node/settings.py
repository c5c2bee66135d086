"""Settings of the DICOM node, each a flag, a variable and a key of a file, as those of `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from medseg_nca.config.engines import ENGINES
from medseg_nca.config.sources import FOLDER, Metavar, PathSetting
from medseg_nca.errors import ConfigError
from medseg_nca.io.dicomweb.server import DicomWebServer, is_address
from medseg_nca.serving.settings import (
    GIGABYTE,
    MEGABYTE,
    Count,
    Limits,
    Positive,
    Words,
    WorkSettings,
)

if TYPE_CHECKING:
    from medseg_nca.serving.node.access import Allowed
    from medseg_nca.serving.node.routes import Route

# Between the conditions and the models of a rule.
ARROW = "->"
EXAMPLE = f"Modality=MR,SeriesDescription~Hippo {ARROW} hippocampus@champion"
ENVIRONMENT = "MEDSEG_NCA_NODE_"
FORMATS = ("dicom-seg", "sr", "rtstruct", "sc")
# Of jobs, where --keep is 0: their results go when they are delivered, the list of them later.
_LEAST_DAYS = 1.0


def _lines(value: Any) -> Any:
    """A text with a rule on each line, or a list of rules: commas are part of a rule."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        return value
    return tuple(line.strip() for text in texts for line in text.splitlines() if line.strip())


def _routes(value: Any, info: ValidationInfo) -> Any:
    """A model may be a folder beside the settings file."""
    lines, folder = _lines(value), (info.context or {}).get(FOLDER)
    if folder is None or not isinstance(lines, tuple):
        return lines
    found = []
    for line in lines:
        conditions, arrow, models = line.rpartition(ARROW)
        names = []
        for word in (word.strip() for word in models.split(",")):
            name, equals, reference = word.rpartition("=")
            beside = folder / reference
            names.append(f"{name}{equals}{beside if beside.is_dir() else reference}")
        found.append(f"{conditions}{arrow} {','.join(names)}" if arrow else line)
    return tuple(found)


class NodeSettings(WorkSettings):
    """One node; the descriptions of the fields are the help of the command."""

    aet: str = Field("MEDSEG", description="AE title that peers call.")
    port: int = Field(11112, ge=0, le=65535, description="0 takes any that is free.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    allow: Annotated[Words, Metavar("AET@HOST[:PORT]")] = Field(
        (),
        description="Who may send: AE title and address, name or network; with a port it is told "
        "there what was committed.",
    )
    route: Annotated[tuple[str, ...], BeforeValidator(_routes),
                     Metavar("'CONDITIONS -> MODEL'")] = Field(
        (),
        description="Which model computes a series; the first rule that fits counts. "
        f"For example '{EXAMPLE}'.",
    )  # fmt: skip
    send_to: Annotated[Words, Metavar("AET@HOST:PORT|URL")] = Field(
        (), description="Where results go: by C-STORE, or by STOW-RS to a DICOMweb server."
    )
    spool: PathSetting = Field(
        Path("node"), description="Folder of series, jobs, results and the audit log."
    )
    formats: Annotated[Words, Field(min_length=1), Metavar("FORMAT[,FORMAT...]")] = Field(
        ("dicom-seg",), description=f"What is made of a series: {', '.join(FORMATS)}."
    )
    on_reject: Literal["deliver", "hold"] = Field(
        "deliver",
        description="What becomes of a result whose estimated quality is rejected: deliver sends "
        "it like all others, hold keeps it until `dicom-node retry JOB` delivers it.",
    )
    settle: Positive = Field(
        30.0, description="Seconds without an instance after which a series is complete."
    )
    expect_count: Annotated[str | None, Metavar("KEYWORD")] = Field(
        None,
        description="Tag that says how many instances a series has, which is then complete at "
        "once; for example ImagesInAcquisition.",
    )
    tls_cert: PathSetting | None = Field(None, description="Certificate chain, PEM.")
    tls_key: PathSetting | None = Field(None, description="Key of the certificate, PEM.")
    tls_ca: PathSetting | None = Field(
        None, description="Certificates (PEM) that signed those of the peers, which they then need."
    )
    insecure: bool = Field(
        False,
        description="Listen for other machines even where --allow takes an AE title from any host.",
    )
    keep: Annotated[float, Field(ge=0, allow_inf_nan=False), Metavar("DAYS")] = Field(
        7.0,
        description="How long series and results are kept; 0 removes both once the results are "
        "delivered.",
    )
    max_object: Positive = Field(4096.0, description="Of one object, in 10^6 bytes.")
    max_associations: Count = Field(16, description="Associations at a time.")
    reserve_gb: Annotated[float, Field(ge=0, allow_inf_nan=False), Metavar("NUMBER")] = Field(
        1.0, description="Room on the disk that is left free, in 10^9 bytes."
    )
    report_failures: Literal["none", "sr", "sc"] = Field(
        "none",
        description="Object that says in the archive why a series has no result: none, sr or sc.",
    )
    metrics_port: Annotated[int | None, Field(ge=0, le=65535), Metavar("PORT")] = Field(
        None, description="Port on 127.0.0.1 for figures in the format of Prometheus."
    )

    @property
    def limits(self) -> Limits:
        """Of jobs, in voxels, seconds and bytes."""
        return Limits(
            voxels=int(self.max_voxels * MEGABYTE), queue=self.queue, deadline=self.deadline,
            job_age=max(self.keep, _LEAST_DAYS) * 86400, kept_bytes=int(self.keep_gb * GIGABYTE),
            delivery=self.deliver_hours * 3600,
        )  # fmt: skip

    @property
    def routes(self) -> tuple[Route, ...]:
        """The rules.

        Raises:
            ConfigError: naming the rule that is wrong.
        """
        from medseg_nca.serving.node.routes import parse_routes

        return parse_routes(self.route)

    @property
    def allowed(self) -> tuple[Allowed, ...]:
        """Who may send.

        Raises:
            ConfigError: naming the entry that is wrong.
        """
        from medseg_nca.serving.node.access import parse_allowed

        return tuple(parse_allowed(text) for text in self.allow)

    @property
    def web_servers(self) -> dict[str, DicomWebServer]:
        """The DICOMweb servers among the destinations, by what they are called in the settings."""
        return {
            text: DicomWebServer(text, self.dicomweb_auth, self.dicomweb_ca, self.dicomweb_timeout)
            for text in self.send_to
            if is_address(text)
        }

    def check(self) -> None:
        """Refuse what no node could do.

        Raises:
            ConfigError: naming the setting.
        """
        from medseg_nca.io.dimse.address import check_aet, parse_address

        check_aet(self.aet)
        self.check_together()
        _ = self.routes, self.web_servers
        for text in self.send_to:
            if not is_address(text):
                parse_address(text)
        self._check_files()
        self._check_access()

    def check_together(self) -> None:
        """Refuse settings that exclude each other, and what there is not to choose from.

        Raises:
            ConfigError: naming the setting.
        """
        from medseg_nca.serving.node.completeness import check_keyword

        ENGINES.check(self.engine)
        for name in self.formats:
            if name not in FORMATS:
                raise ConfigError(
                    f"--formats: {name!r} is none.", hint=f"There are {', '.join(FORMATS)}."
                )
        if self.expect_count is not None:
            check_keyword(self.expect_count)
        if self.keep == 0 and not self.send_to:
            raise ConfigError(
                "--keep 0 removes results once they are delivered, and they go nowhere.",
                hint="Name a destination: --send-to AET@HOST:PORT",
            )

    def _check_files(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError(
                "TLS needs a certificate and its key.", hint="Give --tls-cert and --tls-key."
            )
        for name in ("tls_cert", "tls_key", "tls_ca", "dicomweb_auth", "dicomweb_ca"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ConfigError(f"--{name.replace('_', '-')}: there is no file {path}.")

    def _check_access(self) -> None:
        """Nobody is let in by accident, nor is the way to a DICOMweb server open."""
        from medseg_nca.serving.security.listening import is_loopback

        allowed = self.allowed
        if not allowed:
            raise ConfigError(
                "--allow: nobody may send.", hint="For example: --allow SCANNER@10.0.0.5"
            )
        if not is_loopback(self.host) and not self.insecure:
            open_to_all = [text for text, one in zip(self.allow, allowed, strict=True)
                           if one.host == "*"]  # fmt: skip
            if open_to_all:
                raise ConfigError(
                    f"--allow {open_to_all[0]}: with --host {self.host} any machine may call "
                    "itself so.",
                    hint="Name its address or network, or say --insecure in a network you trust.",
                )
        for server in self.web_servers.values():
            self.check_way(server)

    def check_way(self, server: DicomWebServer) -> None:
        """Refuse to send results through a network as plain text, unless that is said.

        Raises:
            ConfigError: with what to do, or if the credentials cannot be used.
        """
        from medseg_nca.serving.security.listening import is_loopback

        server.headers()
        if not (server.tls or is_loopback(server.host) or self.dicomweb_insecure):
            raise ConfigError(
                f"--send-to {server.url}: on the way to another machine everybody can read results "
                "without TLS.",
                hint="Give its https:// address, or say --dicomweb-insecure.",
            )
