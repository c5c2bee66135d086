"""Test the connection to a DICOM application by C-ECHO (PS3.4 A)."""

from __future__ import annotations

import time

from medseg_nca.io.dimse.address import DimseAddress
from medseg_nca.io.dimse.association import opened
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.io.dimse.faults import why_broken
from medseg_nca.io.dimse.link import Link
from medseg_nca.io.dimse.tls import DimseTls

# UID of the Verification SOP class (PS3.4 A.4).
VERIFICATION = "1.2.840.10008.1.1"


def echo(
    peer: DimseAddress, calling_aet: str, tls: DimseTls | None = None, timeout: float = 30.0
) -> float:
    """Open an association, ask for an echo, and release it.

    Args:
        peer: that is tested.
        calling_aet: AE title of this side.
        tls: for a peer that speaks TLS.
        timeout: seconds for the connection and for each answer.

    Returns:
        The seconds that all of it took.

    Raises:
        DependencyError, ConfigError: as :func:`medseg_nca.io.dimse.association.opened`.
        DimseError: if the association cannot be opened, or the echo is not answered well.
    """
    from pynetdicom import build_context

    link, began = Link(timeout), time.monotonic()
    with opened(
        peer, calling_aet, [build_context(VERIFICATION)], tls=tls, timeout=timeout, link=link
    ) as association:
        status = association.send_c_echo().get("Status")
        if status is None:
            association.join(timeout)  # it takes note of an abort in a thread of its own
            raise why_broken(peer, calling_aet, link, "C-ECHO", tls=tls is not None)
        if status != 0:
            raise DimseError(
                "refused", f"{peer}: refuses the echo (status 0x{status:04X}).",
                hint="Look into its log.",
            )  # fmt: skip
    return time.monotonic() - began
