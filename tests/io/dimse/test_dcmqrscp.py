"""Fetching from dcmtk's archive, which does not tell how many instances a series has."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg_nca.io.dicom.query import query_of
from medseg_nca.io.dicom.remote import FetchLimits
from medseg_nca.io.dicom.select import parse_selection
from medseg_nca.io.dimse.address import DimseAddress
from medseg_nca.io.dimse.retrieve import DimseArchive
from tests.io.dicom.build import classic, pixels, write

pytestmark = pytest.mark.peer
_CONFIG = """NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
us = (MEDSEG_NCA, 127.0.0.1, {ours})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {folder} RW (200, 1024mb) ANY
AETable END
"""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Of an archive with one series, and the one that it sends to."""
    if shutil.which("dcmqrscp") is None or shutil.which("dcmqridx") is None:
        pytest.skip("dcmqrscp is not installed (Debian: dcmtk)")
    port, ours, folder = _free_port(), _free_port(), tmp_path / "archive"
    files = write(folder / "one", classic(pixels((4, 8, 6)), modality="MR"))
    subprocess.run(["dcmqridx", str(folder), *map(str, files)], check=True, timeout=60)
    config = tmp_path / "dcmqrscp.cfg"
    config.write_text(_CONFIG.format(port=port, ours=ours, folder=folder))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["dcmqrscp", "-c", str(config)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port, ours
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("method", ["get", "move"])
def test_a_series_comes_whole(ports: tuple[int, int], tmp_path: Path, method: str) -> None:
    address = DimseAddress("ARCHIVE", "127.0.0.1", ports[0])
    archive = DimseArchive(address, "MEDSEG_NCA", method=method, move_port=ports[1])
    (found,) = archive.search(query_of(parse_selection("Modality=MR")))
    assert found.instances is None
    (tmp_path / "got").mkdir()
    paths = archive.fetch(found, tmp_path / "got", FetchLimits(), lambda count: None)
    assert len(paths) == 4
