"""Who may call the node."""

from __future__ import annotations

import pytest

from medseg_nca.errors import ConfigError
from medseg_nca.serving.node.access import Access, Allowed, parse_allowed


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("PACS@10.0.0.5", Allowed("PACS", "10.0.0.5")),
        ("PACS@10.0.0.5:104", Allowed("PACS", "10.0.0.5", 104)),
        ("*@10.0.0.0/8:11112", Allowed("*", "10.0.0.0/8", 11112)),
        ("MR 1@scanner-1.hospital.example", Allowed("MR 1", "scanner-1.hospital.example")),
        ("PACS@*", Allowed("PACS", "*")),
        ("PACS@[fd00::5]:104", Allowed("PACS", "fd00::5", 104)),
        ("*@[fd00::]", Allowed("*", "fd00::")),
        ("*@[fd00::/8]", Allowed("*", "fd00::/8")),
    ],
)
def test_forms(text: str, allowed: Allowed) -> None:
    assert parse_allowed(text) == allowed


@pytest.mark.parametrize(
    "text",
    [
        "", "PACS", "@10.0.0.5", "PACS@", "*@*", "ANY@10.0.0.0/8", "A\\B@h", "SEVENTEEN-LETTERS@h",
        "P@10.0.0.5/8", "P@10.0.0.0/99", "P@h:0", "P@h:65536", "P@fd00::5", "P@a b", "P@h:1:2",
    ],
)  # fmt: skip
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_allowed(text)
    assert error.value.hint


def test_title_and_address_have_to_fit_together() -> None:
    texts = ("PACS@10.0.0.5:104", "*@10.1.0.0/16:11112", "MR@*", "ME@localhost", "SIX@[fd00::/8]")
    access = Access([parse_allowed(text) for text in texts])
    assert access.permits("PACS", "10.0.0.5")
    assert access.permits("PACS ", "::ffff:10.0.0.5")
    assert not access.permits("PACS", "10.0.0.6")
    assert not access.permits("pacs", "10.0.0.5")
    assert access.permits("WHOEVER", "10.1.255.1")
    assert access.permits("MR", "192.168.1.1")
    assert access.permits("ME", "127.0.0.1")
    assert not access.permits("ME", "10.0.0.5")
    assert access.permits("SIX", "fd12::1%eth0")
    assert access.address_of("PACS", "10.0.0.5") == ("10.0.0.5", 104)
    assert access.address_of("WHOEVER", "10.1.2.3") == ("10.1.2.3", 11112)
    assert access.address_of("MR", "192.168.1.1") is None


def test_nobody_may_call_unless_it_is_said() -> None:
    assert not Access([]).permits("PACS", "127.0.0.1")
    assert not Access([parse_allowed("ME@no.such.name.invalid")]).permits("ME", "127.0.0.1")
