"""What a failing connection is told as, and that nothing is left of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pynetdicom import AE, evt

from medseg_nca.cli.main import cli
from medseg_nca.errors import ConfigError
from medseg_nca.io.dimse.address import DimseAddress, parse_address
from medseg_nca.io.dimse.echo import echo
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.io.dimse.tls import DimseTls
from tests.io.dimse.peers import VERIFICATION, answers, bare, free_port, node, storescp
from tests.serving.certificates import write_pair

ABORT = bytes.fromhex("07000000000400000000")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not [one for one in threading.enumerate() if one not in before and one.is_alive()]


def fault(address: DimseAddress, tls: DimseTls | None = None, timeout: float = 20) -> DimseError:
    with pytest.raises(DimseError) as caught:
        echo(address, "ME", tls, timeout)
    assert str(address) in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("text", ["A B@pacs.example:104", "a@b@10.0.0.1:1", "X@[::1]:65535"])
def test_an_address_is_read_and_written(text: str) -> None:
    assert str(parse_address(text)) == text
    assert parse_address("  X @h", 104) == DimseAddress("X", "h", 104)


@pytest.mark.parametrize(
    "text", ["X@h", "@h:1", "   @h:1", "A\\B@h:1", "X@h:0", "X@h:65536", "X@:1", "é@h:1",
             "X@::1:104", "A" * 17 + "@h:1", "X@h:1\n@", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)


def test_an_echo_is_answered() -> None:
    with node() as peer:
        assert echo(peer, "ME") > 0


def test_nothing_that_listens_and_no_such_name() -> None:
    closed = fault(DimseAddress("X", "127.0.0.1", free_port()))
    assert (closed.trouble, closed.passes) == ("unreachable", True)
    assert "nothing listens" in closed.message
    unknown = fault(DimseAddress("X", "nothing.invalid", 104))
    assert unknown.trouble == "unreachable"
    assert "nothing.invalid is known" in unknown.message


@pytest.mark.parametrize(
    ("source", "reason", "trouble", "words"),
    [
        (1, 1, "refused", "no reason"), (1, 2, "wrong", "application context"),
        (1, 3, "unauthorised", "calling AE title ME"), (1, 7, "wrong", "AE title is not BARE"),
        (2, 2, "wrong", "protocol"), (3, 1, "busy", "congested"),
        (3, 2, "busy", "too many associations"),
    ],
)  # fmt: skip
def test_every_rejection_is_told_in_words(
    source: int, reason: int, trouble: str, words: str
) -> None:
    answer = bytes.fromhex("030000000004" + f"0001{source:02x}{reason:02x}")
    with bare(answers(answer)) as peer:
        error = fault(peer)
    assert error.trouble == trouble
    assert words in error.message


def test_a_peer_that_aborts_ends_or_speaks_something_else() -> None:
    with bare(answers(ABORT)) as peer:
        error = fault(peer)
        assert (error.trouble, "aborted" in error.message) == ("refused", True)
        assert "ME" in str(error.hint)
    with bare(lambda one: (one.recv(10**5), one.shutdown(socket.SHUT_RDWR))) as peer:
        assert fault(peer).trouble == "unreachable"
    with bare(answers(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as peer:
        assert "speaks no DICOM" in fault(peer).message
        assert fault(peer, DimseTls()).trouble == "wrong"


def test_a_peer_that_does_nothing_is_given_up() -> None:
    with bare(lambda _: None) as peer:
        assert fault(peer, timeout=0.5).trouble == "slow"
        assert "TLS within" in fault(peer, DimseTls(), timeout=0.5).message
    over = threading.Event()
    with node((evt.EVT_C_ECHO, lambda _: int(not over.wait(60)))) as peer:
        assert "did nothing for 5 s during C-ECHO" in fault(peer, timeout=5).message
        over.set()


def test_an_abort_in_the_middle_a_refused_echo_and_no_echo_at_all() -> None:
    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0

    with node((evt.EVT_C_ECHO, abort)) as peer:
        assert "aborted during C-ECHO" in fault(peer).message
    with node((evt.EVT_C_ECHO, lambda _: 0x0122)) as peer:
        assert "0x0122" in fault(peer).message
    with node(classes=["1.2.840.10008.5.1.4.1.1.2"]) as peer:
        assert fault(peer).trouble == "unsupported"


def test_titles_that_a_node_asks_for_and_its_number_of_associations() -> None:
    with node(require_calling_aet=["YOU"]) as peer:
        assert fault(peer).trouble == "unauthorised"
    with node(require_called_aet=True) as peer:
        assert fault(DimseAddress("OTHER", peer.host, peer.port)).trouble == "wrong"
        assert echo(peer, "ME") > 0
    with node(maximum_associations=1) as peer:
        entity = AE("OTHER")
        entity.add_requested_context(VERIFICATION)
        first = entity.associate(peer.host, peer.port)
        assert fault(peer).passes
        first.release()
        first.join(60)


def test_tls_on_both_sides(tmp_path: Path) -> None:
    (cert, key), (mine, secret) = write_pair(tmp_path / "it"), write_pair(tmp_path / "me")
    strange, other = write_pair(tmp_path / "else", names=("elsewhere.example",))
    with node(tls=DimseTls(mine, cert, key)) as peer:
        assert echo(peer, "ME", DimseTls(cert, mine, secret)) > 0
        for without in (DimseTls(cert), DimseTls(cert, strange, other)):
            assert fault(peer, without).trouble in ("unauthorised", "unreachable")
        untrusted = fault(peer, DimseTls(mine))
        assert (untrusted.trouble, "not trusted" in untrusted.message) == ("unauthorised", True)
        assert fault(peer, timeout=3).trouble in ("wrong", "unreachable", "slow")
    with node(tls=DimseTls(None, strange, other)) as peer:
        assert "not valid for '127.0.0.1'" in fault(peer, DimseTls(strange)).message
    with node() as peer:
        assert fault(peer, DimseTls(cert), 5).trouble in ("wrong", "unreachable", "slow")


def test_files_of_tls_that_cannot_be_used(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path / "it")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("")
    for tls in (DimseTls(nothing), DimseTls(tmp_path / "none"), DimseTls(None, cert),
                DimseTls(None, cert, nothing), DimseTls(None, None, key)):  # fmt: skip
        with pytest.raises(ConfigError, match=r"pem|none"):
            tls.client_context()
    with pytest.raises(ConfigError, match="needs a certificate"):
        DimseTls(cert).server_context()


def test_the_command_says_what_worked_and_what_did_not() -> None:
    with node(require_calling_aet=["ME"]) as peer:
        done = CliRunner().invoke(cli, ["dicom", "echo", str(peer), "--calling", "ME"])
        assert done.exit_code == 0
        assert f"{peer}: answers the echo of ME" in done.stdout
        failed = CliRunner().invoke(cli, ["dicom", "echo", str(peer), "--json"])
    assert failed.exit_code == 2
    told = json.loads(failed.stdout)
    assert (told["answers"], told["trouble"], told["calling"]) == (False, "unauthorised", "MEDSEG")
    assert "does not know the calling AE title MEDSEG" in told["message"]


@pytest.mark.peer
def test_dcmtk_with_and_without_tls(tmp_path: Path) -> None:
    (cert, key), (mine, secret) = write_pair(tmp_path / "it"), write_pair(tmp_path / "me")
    with storescp(tmp_path / "plain") as peer:
        assert echo(peer, "ME") > 0
    with storescp(tmp_path / "safe", "+tls", str(key), str(cert), "+cf", str(mine), "-ic") as peer:
        assert echo(peer, "ME", DimseTls(cert, mine, secret)) > 0
