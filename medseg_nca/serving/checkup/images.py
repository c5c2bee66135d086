"""Where images come from: a folder, or a DICOMweb server."""

from __future__ import annotations

import os
from collections.abc import Iterator

from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.io.dicomweb.server import DicomWebServer
from medseg_nca.serving.checkup.files import examine_mode
from medseg_nca.serving.ohif.build import OhifBuild
from medseg_nca.serving.security.listening import check_pacs
from medseg_nca.serving.settings import ServeSettings

# A series that no server has.
_NONE = "1.2.826.0.1.3680043.8.498.1"


def examine_studies(settings: ServeSettings) -> Iterator[DoctorFinding]:
    """Look into the folder of images, or search the DICOMweb server with the credentials."""
    folder = settings.folder
    if folder is not None:
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield DoctorFinding("images", "folder", "ok", f"{folder}, readable")
        else:
            advice = "Name a folder with images that the user of the server may read."
            text = f"{folder} is no folder that can be read"
            yield DoctorFinding("images", "folder", "problem", text, advice)
        return
    try:
        pacs = settings.pacs
        if pacs is None:
            return
        check_pacs(settings)
        search(pacs)
    except MedsegError as error:
        yield DoctorFinding("images", "DICOMweb", "problem", error.message, error.hint or "")
    else:
        yield DoctorFinding("images", "DICOMweb", "ok", f"{pacs.url} answers a search")
    if settings.dicomweb_auth is not None:
        yield from examine_mode("images", "credentials file", settings.dicomweb_auth)


def search(server: DicomWebServer) -> None:
    """Search a DICOMweb server, which shows that it answers and whom it lets in.

    Raises:
        MedsegError: if it does not.
    """
    client = DicomWebClient(server)
    try:
        client.find_series(_NONE)
    finally:
        client.close()


def examine_viewer(settings: ServeSettings) -> Iterator[DoctorFinding]:
    """Look whether the folder of the viewer holds a build; without a folder nothing is found."""
    if settings.ohif is None:
        return
    try:
        OhifBuild(settings.ohif)
    except MedsegError as error:
        yield DoctorFinding("images", "OHIF", "problem", error.message, error.hint or "")
    else:
        yield DoctorFinding("images", "OHIF", "ok", f"{settings.ohif} holds the viewer")
