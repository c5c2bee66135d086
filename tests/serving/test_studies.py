"""Images that clients send under an id."""

from __future__ import annotations

import threading
from pathlib import Path

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.intake import Received
from medseg_nca.serving.studies import Studies


def test_of_several_images_under_one_id_the_first_is_kept_whole(tmp_path: Path) -> None:
    studies, kept, refused = Studies(None, tmp_path / "images"), [], []
    at_once = threading.Barrier(8)

    def add(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        files = [folder / f"file_{slice:05d}" for slice in range(300)]
        for path in files:
            path.write_bytes(b"%d" % number)
        at_once.wait()
        try:
            studies.add("same", Received("dicom", tuple(files), b""))
        except Refused as error:
            refused.append(error.status)
        else:
            kept.append(b"%d" % number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [409] * 7
    found = studies.get("same")
    assert [path.read_bytes() for path in found.files] == kept * 300
