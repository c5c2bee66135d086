"""Why an association was not opened, or broke: in words, with the next step (PS3.8 9.3)."""

from __future__ import annotations

import ssl
from typing import Any

from medseg_nca.io.dimse.address import DimseAddress
from medseg_nca.io.dimse.errors import DimseError, Trouble
from medseg_nca.io.dimse.link import Link

_RUNNING = "Is it running, and are its host and port right?"
_LATER = "Ask again later, or allow more time."
_LOG = "Look into its log."
_KNOWS = "Let it know the AE title {aet} and the host of this machine."
_OTHER_TLS = "Is TLS wanted at this port, and is the port that of DICOM?"
# Reasons of a rejection by (source, reason) (PS3.8 9.3.4).
_REJECTED: dict[tuple[int, int], tuple[Trouble, str, str]] = {
    (1, 1): ("refused", "and gives no reason", f"{_KNOWS} Its log may say more."),
    (1, 2): ("wrong", "as it does not know DICOM's application context", _LOG),
    (1, 3): ("unauthorised", "as it does not know the calling AE title {aet}", _KNOWS),
    (1, 7): ("wrong", "as its AE title is not {called}", "Mend the AE title before the @."),
    (2, 1): ("refused", "and gives no reason (ACSE)", f"{_KNOWS} Its log may say more."),
    (2, 2): ("wrong", "as it does not know this version of the protocol", _LOG),
    (3, 1): ("busy", "for now, as it is congested", "Ask again later."),
    (3, 2): ("busy", "for now, as it has too many associations", "Ask again later."),
}
# Types of PDUs (PS3.8 9.3.1), and that of an alert of TLS (RFC 8446 5.1).
_PDUS, _TLS_ALERT = frozenset(range(1, 8)), 0x15


def why_not_open(
    address: DimseAddress, calling_aet: str, link: Link, answer: Any, *, tls: bool
) -> DimseError:
    """Return the error of an association that did not come about.

    Args:
        address: of the peer.
        calling_aet: AE title of this side.
        link: what became of the connection.
        answer: to the request (A-ASSOCIATE); None if none came.
        tls: whether TLS was used.
    """
    if not link.connected:
        return _unconnected(address, link)
    if tls and not link.secured:
        return _insecure(address, link)
    if answer is not None and answer.result:
        source, reason = answer.result_source, answer.diagnostic
        trouble, text, hint = _REJECTED.get(
            (source, reason), ("refused", f"(source {source}, reason {reason})", _LOG)
        )
        # A rejection that is transient (2) may be none the next time, whatever its reason.
        trouble = "busy" if answer.result == 2 and trouble == "refused" else trouble
        words = {"aet": calling_aet, "called": address.aet}
        return _error(
            trouble,
            address,
            f"rejects the association {text}".format(**words),
            hint.format(**words),
        )
    if answer is not None and not answer.result:
        return _error(
            "unsupported", address, "takes the association, but offers none of what is asked for",
            "See which SOP classes and transfer syntaxes it offers to this AE title.",
        )  # fmt: skip
    return why_broken(address, calling_aet, link, "the opening of the association", tls=tls)


def why_broken(
    address: DimseAddress, calling_aet: str, link: Link, what: str, *, tls: bool
) -> DimseError:
    """Return the error of a request that got no answer.

    Args:
        address: of the peer.
        calling_aet: AE title of this side.
        link: what became of the connection.
        what: was going on, for example ``C-STORE``.
        tls: whether TLS was used.
    """
    knows = _KNOWS.format(aet=calling_aet)
    if link.ended:
        return _error("unreachable", address, f"was left during {what}, as this side ends", _LATER)
    if aborted(link):
        return _error(
            "refused", address, f"aborted during {what}", f"{knows} Its log may say more."
        )
    if isinstance(link.error, ssl.SSLError):
        text = f"ended TLS during {what} ({_reason(link.error)})"
        return _error(
            "unauthorised", address, text, "Does it want a certificate of this side, and trust it?"
        )
    if link.first and link.first[0] not in _PDUS:
        text = "wants TLS" if link.first[0] == _TLS_ALERT else "speaks no DICOM"
        return _error("wrong", address, f"{text} at this port", _OTHER_TLS)
    if link.stalled or not (link.heard or link.error or link.first):
        seconds = f"{link.timeout:g} s"
        return _error("slow", address, f"did nothing for {seconds} during {what}", _LATER)
    if link.error is None and type(link.heard).__name__ not in ("A_P_ABORT", "A_RELEASE"):
        return _error("wrong", address, f"sent what does not belong there during {what}", _LOG)
    wants = "a certificate of this side" if tls else "TLS"
    return _error(
        "unreachable", address, f"ended the connection during {what}",
        f"Does it want {wants}? {knows} Its log may say more.",
    )  # fmt: skip


def aborted(link: Link) -> bool:
    """Whether the peer itself aborted (A-ABORT, PS3.8 9.3.8), and did not just vanish."""
    return type(link.heard).__name__ == "A_ABORT"


def _unconnected(address: DimseAddress, link: Link) -> DimseError:
    error = link.error
    if isinstance(error, ConnectionRefusedError):
        text = f"refuses the connection: nothing listens at port {address.port}"
    elif isinstance(error, TimeoutError):
        text = f"does not answer: no connection within {link.timeout:g} s"
    else:
        text = "cannot be reached" + (f" ({error.strerror})" if error and error.strerror else "")
    return _error("unreachable", address, text, _RUNNING)


def _insecure(address: DimseAddress, link: Link) -> DimseError:
    error = link.error
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"has a certificate that is not trusted ({error.verify_message.rstrip('.')})"
        hint = "Name the authority that signed it, and the host as the certificate does."
        return _error("unauthorised", address, text, hint)
    if isinstance(error, TimeoutError):
        text = f"did not answer to TLS within {link.timeout:g} s"
        return _error("slow", address, text, _OTHER_TLS)
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return _error(
            "unauthorised", address, f"refuses TLS ({_reason(error)})",
            "Does it want a certificate of this side, and trust it?",
        )  # fmt: skip
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        text = f"speaks no TLS at this port, or none that is safe ({_reason(error)})"
        return _error("wrong", address, text, _OTHER_TLS)
    # A peer that is stopping ends its connections so, and one that speaks no TLS may too.
    return _error("unreachable", address, "ended the connection at the start of TLS", _OTHER_TLS)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or type(error).__name__).lower().replace("_", " ")


def _error(trouble: Trouble, address: DimseAddress, text: str, hint: str) -> DimseError:
    return DimseError(trouble, f"{address}: {text}.", hint=hint)
