"""DICOM TLS (PS3.15 B.12): who has a certificate stores, who has none is dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE

from medseg_nca.io.dimse.tls import DimseTls
from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.serving.certificates import write_pair
from tests.serving.node.receiving import (
    AET,
    CALLER,
    ECHO,
    connect,
    dcmtk,
    is_closed,
    running,
    until,
)


def tls(folder: Path) -> DimseTls:
    cert, key = write_pair(folder)
    return DimseTls(ca=cert, cert=cert, key=key)


@pytest.mark.peer
def test_dcmtk_stores_over_tls_with_the_right_certificate(tmp_path: Path) -> None:
    right, wrong = tls(tmp_path / "right"), tls(tmp_path / "wrong")
    path = write(tmp_path / "in", classic(pixels((1, 8, 8)), AXIAL, modality="MR"))[0]
    with running(tmp_path / "node", tls=right) as node:
        secured = ("+tls", right.key, right.cert, "+cf", right.cert)
        text = dcmtk("storescu", node.port, *secured, "--", path)
        assert "exit 0" in text, text
        assert len(node.files()) == 1
        refused = ("+tls", wrong.key, wrong.cert, "+cf", right.cert)
        assert "exit 0" not in dcmtk("storescu", node.port, *refused, "--", path)
        assert "exit 0" not in dcmtk("storescu", node.port, "--", path)


def test_a_silent_or_plain_peer_holds_nobody_up(tmp_path: Path) -> None:
    right = tls(tmp_path / "right")
    with running(tmp_path / "node", tls=right, artim_timeout=5) as node:
        silent = [connect(node.port), connect(node.port, b"\x16\x03\x01\x02\0\1")]
        plain = connect(node.port, b"\1\0\0\0\0\4aaaa")
        ae: Any = AE(CALLER)
        ae.add_requested_context(ECHO)
        peer = ae.associate(
            "127.0.0.1", node.port, ae_title=AET, tls_args=(right.client_context(), "127.0.0.1")
        )
        assert peer.send_c_echo().Status == 0
        peer.release()
        assert is_closed(plain)
        assert all(is_closed(one) for one in silent)
        until(lambda: node.counted('associations_total{outcome="tls-failed"} 3'))
