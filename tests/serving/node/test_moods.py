"""Archives that are busy, slow, refuse, or leave in the middle have each result once at last."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.io.dicom.build import uid
from tests.serving.node.archives import Archive, Mood, archive, series_of
from tests.serving.node.running import Node, command, series, start, store
from tests.tracking.tiny import save_tiny

pytestmark = pytest.mark.slow

MOODS: dict[str, list[Mood]] = {
    "at once": ["takes"],
    "busy": ["rejects", "busy", "takes"],
    "leaves": ["aborts", "closes", "takes"],
    "answer lost": ["loses", "takes"],
    "warns": ["warns"],
    "silent": ["hangs", "takes"],
    "refuses": ["refuses"],
}


def test_each_archive_has_a_result_once(tmp_path: Path) -> None:
    """One node and many archives: one that is slow holds up no other."""
    save_tiny(tmp_path / "tiny", seed=10)
    paths = series(tmp_path, "a")
    with ExitStack() as stack:
        them = {name: stack.enter_context(archive(*moods)) for name, moods in MOODS.items()}
        where = [word for one in them.values() for word in ("--send-to", one.address)]
        node = start(tmp_path, *where, "--formats", "dicom-seg,sr")
        assert set(store(node.port, paths).values()) == {0}
        quick = [one for name, one in them.items() if name not in ("silent", "refuses")]
        node.until(lambda: [len(one.instances) for one in quick],
                   lambda counts: counts == [2] * len(quick))  # fmt: skip
        assert them["silent"].objects == []  # its turn comes after a time without an answer
        given_up(node, them["refuses"])
        node.until(lambda: states(node), lambda found: found == ["stored"] * len(MOODS))
        assert node.list("dead_letters") == []
        for name, one in them.items():
            assert len(one.instances) == 2, name
            (seg,) = {str(o.SOPInstanceUID): o for o in one.objects if o.Modality == "SEG"}.values()
            assert series_of(seg) == uid("a", "a")
            assert set(one.met) == set(MOODS[name]) | set(one.moods), name
        # The same object twice is one in an archive; other objects of the same result would be two.
        assert len({frozenset(one.instances) for one in them.values()}) == 1
        sent_again(node, paths, them)
        assert node.stop() == 0, node.log


def states(node: Node) -> list[str]:
    return [one["state"] for one in node.list("deliveries")]


def given_up(node: Node, refuses: Archive) -> None:
    """What an archive refuses for good lies among the dead letters until somebody asks again."""
    node.until(lambda: node.list("dead_letters"))
    (letter,) = node.list("dead_letters")
    folder = Path(letter["folder"])
    assert len(list(folder.glob("*.dcm"))) == 2
    assert "C000H" in json.loads((folder / "reason.json").read_text())["reason"]
    assert "C000H" in command("list", node)
    refuses.moods[:] = ["takes"]
    assert refuses.objects == []
    command("retry", node, letter["job"])


def sent_again(node: Node, paths: list[Path], them: dict[str, Archive]) -> None:
    """A series that comes again, to a node that was started again, is neither computed nor sent."""
    before = [len(one.objects) for one in them.values()]
    node.kill()
    where = [word for one in them.values() for word in ("--send-to", one.address)]
    again = start(node.folder, *where, "--formats", "dicom-seg,sr")
    node.process, node.port = again.process, again.port
    assert set(store(node.port, paths[::-1]).values()) == {0}
    other = series(node.folder, "another")
    store(node.port, other)  # when it is done, the one before had its turn too
    node.ended(2)
    node.until(lambda: states(node), lambda found: found == ["stored"] * 2 * len(MOODS))
    assert [len(one.objects) for one in them.values()] == [count + 2 for count in before]
