"""Series that come in parts, twice, late, mixed with others, or in great numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.io.dicom.build import uid
from tests.serving.node.archives import Archive, archive, series_of
from tests.serving.node.running import Node, series, start, store
from tests.tracking.tiny import save_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def storage() -> Iterator[Archive]:
    with archive() as found:
        yield found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, storage: Archive) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("parts")
    save_tiny(folder / "tiny", seed=10)
    node = start(folder, "--send-to", storage.address, "--settle", "2")
    try:
        yield node
    finally:
        assert node.stop() == 0, node.log


def segs(storage: Archive, name: str) -> list[str]:
    """Descriptions of the results of a series, in the order of arrival."""
    return [str(one.SeriesDescription) for one in storage.objects
            if series_of(one) == uid(name, name)]  # fmt: skip


def test_what_comes_later_makes_a_new_version_and_duplicates_none(
    node: Node, storage: Archive, tmp_path: Path
) -> None:
    paths = series(tmp_path, "half")
    store(node.port, paths[:4])
    node.until(lambda: segs(storage, "half"))
    store(node.port, paths[:4])  # the same, and a third time by a sender that knows of nothing
    store(node.port, [*paths[2:], *paths[5:]])
    node.until(lambda: segs(storage, "half"), lambda found: len(found) == 2)
    store(node.port, paths)
    other = series(tmp_path, "other")
    store(node.port, other)
    node.until(lambda: segs(storage, "other"))
    first, second = segs(storage, "half")
    assert "version" not in first
    assert second.endswith("version 2") or "version 2" in second
    sizes = [len(one.PerFrameFunctionalGroupsSequence) for one in storage.objects
             if series_of(one) == uid("half", "half")]  # fmt: skip
    assert sizes[0] < sizes[1]
    assert len(storage.instances) == len(storage.objects)


def test_patients_whose_series_have_the_same_number_are_kept_apart(
    node: Node, storage: Archive, tmp_path: Path
) -> None:
    """Their slices come in turns, in one association and in two at once."""
    both = [series(tmp_path, name, PatientID=f"ID-{name}", SeriesNumber=3) for name in ("p1", "p2")]
    turns = [path for pair in zip(*both, strict=True) for path in pair]
    store(node.port, turns)
    node.until(lambda: [len(segs(storage, name)) for name in ("p1", "p2")],
               lambda counts: counts == [1, 1])  # fmt: skip
    for name, paths in zip(("p1", "p2"), both, strict=True):
        (seg,) = (one for one in storage.objects if series_of(one) == uid(name, name))
        images = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        sources = {str(image.ReferencedSOPInstanceUID) for image in images}
        assert sources <= {str(dcmread(path).SOPInstanceUID) for path in paths}
        assert seg.PatientID == f"ID-{name}"
