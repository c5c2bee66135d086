"""Views and targets of levels, by hand and against the whole image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg_nca.models.geometry import shrink
from medseg_nca.tasks.segmentation.case_arrays import FEW_VOXELS, CaseArrays
from medseg_nca.tasks.segmentation.targets import shares
from medseg_nca.transforms.warp import Warp


def case(
    shape: tuple[int, ...], seed: int = 0, multi_label: bool = False, few: int = FEW_VOXELS
) -> CaseArrays:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    label = rng.integers(0, 2 if multi_label else 3, ((2 if multi_label else 1), *shape))
    return CaseArrays(image, label.astype(np.uint8), 2 if multi_label else 3, multi_label, few)


def still(size: tuple[int, ...], start: tuple[int, ...] | None = None) -> Warp:
    first = np.array(start or (0,) * len(size))
    return Warp(size, np.eye(len(size)), first + np.array(size) / 2)


def test_a_coarse_cell_holds_the_share_of_each_label() -> None:
    label = torch.tensor([[0, 1], [1, 2]], dtype=torch.uint8)
    assert shares(label, (2, 2), 3).flatten().tolist() == [0.25, 0.5, 0.25]
    assert shares(label, (1, 2), 3)[:, 1, 0].tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("shape", [(16, 24), (16, 8, 12)])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("few", [0, 2**20])
def test_unchanged_it_is_the_image_that_inference_sees(
    shape: tuple[int, ...], multi_label: bool, few: int
) -> None:
    arrays = case(shape, multi_label=multi_label, few=few)
    scale = (4, 4, 2)[: len(shape)]
    cells = tuple(n // s for n, s in zip(shape, scale, strict=True))
    zero = (0,) * len(shape)
    view = arrays.view(still(shape), zero, cells, scale)
    torch.testing.assert_close(view, shrink(arrays.image[None], scale)[0])
    target = arrays.target(still(shape), zero, cells, scale)
    values = (1, 1) if multi_label else (0, 1, 2)
    for channel, value in enumerate(values):
        mask = arrays.label[channel if multi_label else 0] == value
        torch.testing.assert_close(target[channel], shrink(mask.float()[None, None], scale)[0, 0])


@pytest.mark.parametrize("few", [0, 2**20])
def test_beyond_the_image_the_last_voxels_and_background(few: int) -> None:
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    arrays = CaseArrays(image, np.ones((1, 3, 3), np.uint8), 2, False, few)
    around = still((8, 8), (-4, -4))
    view = arrays.view(around, (0, 0), (8, 8), (1, 1))[0]
    assert view[0, 0] == 0
    assert view[-1, -1] == 8
    assert view[4:7, 4:7].equal(arrays.image[0])
    target = arrays.target(around, (0, 0), (4, 4), (2, 2))
    assert target[1].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 0.25]]
    torch.testing.assert_close(target.sum(0), torch.ones(4, 4))


def test_what_was_read_before_changes_nothing() -> None:
    turned = Warp((32, 32), np.array([[0.9, 0.3], [-0.3, 0.9]]), np.array([11.0, 13.0]))
    scales = ((16, 16), (8, 8), (4, 4), (2, 2), (1, 1))
    reads = [(w, s) for s in scales for w in (turned, still((32, 32)))]

    def read(order: list[tuple[Warp, tuple[int, int]]]) -> list[bytes]:
        arrays = case((22, 27))
        found = {
            (id(warp), scale): getattr(arrays, name)(warp, (0, 0), (32 // scale[0],) * 2, scale)
            for warp, scale in order
            for name in ("view", "target")
        }
        return [bytes(found[id(warp), scale].numpy()) for warp, scale in reads]

    assert read(reads) == read(reads[::-1])


def test_a_flipped_view_is_the_view_of_the_flipped_image() -> None:
    arrays = case((16, 24))
    flipped = CaseArrays(
        np.ascontiguousarray(arrays.image.numpy()[:, :, ::-1]),
        np.ascontiguousarray(arrays.label.numpy()[:, :, ::-1]), 3, False,
    )  # fmt: skip
    flip = Warp((16, 24), np.diag([1.0, -1.0]), np.array([8.0, 12.0]))
    for scale, cells in (((1, 1), (5, 6)), ((4, 4), (2, 3))):
        for name in ("view", "target"):
            found = getattr(arrays, name)(flip, (1, 2), cells, scale)
            torch.testing.assert_close(
                found, getattr(flipped, name)(still((16, 24)), (1, 2), cells, scale)
            )


def test_a_quarter_turn_turns_image_and_label() -> None:
    arrays = case((16, 16))
    turn = Warp((16, 16), np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([8.0, 8.0]))
    view = arrays.view(turn, (0, 0), (16, 16), (1, 1))
    assert view.equal(torch.rot90(arrays.image, 1, (2, 1)))
    target = arrays.target(turn, (0, 0), (16, 16), (1, 1))
    assert target.argmax(0).equal(torch.rot90(arrays.label[0], 1, (1, 0)).long())


@pytest.mark.parametrize("few", [0, 2**20])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_moved_disc_is_where_its_image_is(dims: int, few: int) -> None:
    """Image and target of every level, read between voxels, agree with a disc drawn there."""
    size = (32,) * dims

    def disc(middle: float) -> np.ndarray:
        grid = np.stack(np.meshgrid(*(np.arange(32) + 0.5,) * dims, indexing="ij"))
        return (((grid - middle) ** 2).sum(0) < 81).astype(np.uint8)

    source = disc(16.0)
    arrays = CaseArrays(source[None].astype(np.float32), source[None], 2, False, few)
    moved = Warp(size, np.eye(dims) * 1.0001, np.array(size) / 2 + 2.3)
    expected = CaseArrays(disc(13.7)[None].astype(np.float32), disc(13.7)[None], 2, False, few)
    for scale in ((1,) * dims, (2,) * dims, (4,) * dims):
        cells = tuple(n // s for n, s in zip(size, scale, strict=True))
        zero = (0,) * dims
        for name in ("view", "target"):
            found = getattr(arrays, name)(moved, zero, cells, scale)[-1]
            wanted = getattr(expected, name)(still(size), zero, cells, scale)[-1]
            assert float((found - wanted).abs().mean()) < 0.03
            assert float(found.sum()) == pytest.approx(float(wanted.sum()), rel=0.03)
