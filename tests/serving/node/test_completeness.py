"""When a series is complete."""

from __future__ import annotations

from pathlib import Path

from medseg_nca.serving.node.completeness import Completeness
from medseg_nca.serving.node.spool import Spool, SpooledSeries
from tests.serving.node.desk import Clock


def test_silence_while_the_node_did_not_listen_does_not_count(tmp_path: Path) -> None:
    clock, spool = Clock(), Spool(tmp_path)
    completeness = Completeness(30, clock=clock)
    half = SpooledSeries("0" * 32, "1.2", "1.2.3", files=4, bytes=400, last=clock.now)
    clock.now += 3600  # the node is down, and the sender tries again now and then
    completeness.listens()
    assert not completeness.holds(half, spool)
    clock.now += 29
    assert not completeness.holds(half, spool)
    clock.now += 2
    assert completeness.holds(half, spool)
