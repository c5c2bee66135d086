"""Which SOP classes a DICOM application takes, found out without sending anything (PS3.8 7.1)."""

from __future__ import annotations

from collections.abc import Iterable

from medseg_nca.io.dimse.address import DimseAddress
from medseg_nca.io.dimse.association import opened
from medseg_nca.io.dimse.echo import VERIFICATION
from medseg_nca.io.dimse.tls import DimseTls


def offered(
    peer: DimseAddress, calling_aet: str, classes: Iterable[str], tls: DimseTls | None = None,
    timeout: float = 30.0,
) -> frozenset[str]:  # fmt: skip
    """Open an association for SOP classes, see which are accepted, and release it.

    Args:
        peer: that is asked.
        calling_aet: AE title of this side.
        classes: UIDs of SOP classes, 127 at most, each offered in the uncompressed transfer
            syntaxes of little endian.
        tls: for a peer that speaks TLS.
        timeout: seconds for the connection and for the answer.

    Returns:
        Those of the classes that the peer accepts.

    Raises:
        DependencyError, ConfigError: as :func:`medseg_nca.io.dimse.association.opened`.
        DimseError: if the association cannot be opened.
    """
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    from pynetdicom import build_context

    syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    wanted = dict.fromkeys(classes)
    # Verification is accepted by all (PS3.4 A.1), so that a peer that takes none is no error here.
    contexts = [build_context(uid, syntaxes) for uid in (VERIFICATION, *wanted)]
    with opened(peer, calling_aet, contexts, tls=tls, timeout=timeout) as association:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    return frozenset(wanted) & accepted
