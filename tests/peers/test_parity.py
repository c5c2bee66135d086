"""Imported models give what the published automata give, for the same fire mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from medseg_nca.models.multilevel import MultiLevelNca
from tests.peers.checkpoints import answers, imported, logits_of, masks_of, randomised, saved
from tests.peers.textbook import (
    Backbone,
    Basic,
    Fast,
    NcaLab,
    linear_smaller,
    nearest_smaller,
    pooled_smaller,
    pyramid,
)


def image(channels: int, *size: int) -> Tensor:
    torch.manual_seed(5)
    return torch.rand(1, channels, *size)


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-5, and of a result that is not near zero."""
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_med_nca_of_two_files(tmp_path: Path) -> None:
    cells = [randomised(Backbone(8, 12), seed) for seed in (1, 2)]
    files = [saved(cell, tmp_path / f"model{n}.pth") for n, cell in enumerate(cells)]
    out = tmp_path / "out"
    imported("med-nca", files, out, answers(2, steps=(5, 3), labels=("a", "b")))
    x = image(1, 16, 12)
    with torch.no_grad():
        state = pyramid(
            cells, x, [(4, 4), (1, 1)], [5, 3], masks_of(out, 1), 8, linear_smaller
        )  # fmt: skip
    assert_equal(logits_of(out, x), state[..., 1:3].movedim(-1, 1))


def test_med_nca_of_one_module_that_takes_channels_first_pictures(tmp_path: Path) -> None:
    """The module changes the axes of its input ``(B, C, row, column)`` before the cell does."""
    module = nn.Module()
    module.backbone_lowres = Backbone(6, 9)
    module.backbone_highres = Backbone(6, 9)
    randomised(module)
    out = tmp_path / "out"
    file = saved(module, tmp_path / "model.pth")
    imported("med-nca", [file], out, answers(2, axes="yx", steps=(4,)))
    x = image(1, 12, 16)  # ours: x, y
    picture = x.transpose(2, 3)  # rows first
    theirs = picture.transpose(2, 3)  # the module's (B, column, row), channels first here
    cells = [module.backbone_lowres, module.backbone_highres]
    with torch.no_grad():
        state = pyramid(
            cells, theirs, [(4, 4), (1, 1)], [4, 4], masks_of(out, 1), 6, linear_smaller
        )  # fmt: skip
    assert_equal(logits_of(out, x), state[..., 1:2].movedim(-1, 1))


@pytest.mark.parametrize("norm", ["batch", "running"])
def test_m3d_nca(tmp_path: Path, norm: str) -> None:
    running = norm == "running"
    cells = [
        randomised(Basic(3, 7, 10, kernel, images=2, running=running), kernel)
        for kernel in (7, 3, 3)
    ]
    for cell in cells:
        cell.train(not running)
    files = [saved(cell, tmp_path / f"model{n}.pth") for n, cell in enumerate(cells)]
    said = answers(
        3, channels=("T1", "T2"), steps=(2, 3, 2), norm=norm, scales=((4,), (2,), (1,))
    )  # fmt: skip
    out = tmp_path / "out"
    imported("m3d-nca", files, out, said)
    # In float64: a batch norm of a few random cells makes rounding errors large, on both sides.
    x = image(2, 16, 16, 20).double()
    with torch.no_grad():
        state = pyramid(
            [cell.double() for cell in cells], x, [(4,) * 3, (2,) * 3, (1,) * 3], [2, 3, 2],
            masks_of(out, 1), 7, pooled_smaller,
        )  # fmt: skip
    assert_equal(logits_of(out, x), state[..., 2:3].movedim(-1, 1))


def test_m3d_nca_of_one_module(tmp_path: Path) -> None:
    module = nn.Module()
    module.model = nn.ModuleList([Basic(3, 5, 8, 5), Basic(3, 5, 8, 3)])
    randomised(module)
    out = tmp_path / "out"
    said = answers(3, scales=((2,), (1,)))
    imported("m3d-nca", [saved(module, tmp_path / "m.pth")], out, said)
    x = image(1, 8, 6, 10)
    with torch.no_grad():
        state = pyramid(
            list(module.model), x, [(2,) * 3, (1,) * 3], [3, 3], masks_of(out, 1), 5,
            pooled_smaller,
        )  # fmt: skip
    assert_equal(logits_of(out, x), state[..., 1:2].movedim(-1, 1))


PYRAMIDS: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((4, 8), (2, 2), (1, 1)),
    3: ((4, 4, 2), (2, 2, 2), (1, 1, 1)),
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["basic", "basic without norm", "fast", "fast without norm"])
def test_octree_nca(tmp_path: Path, dims: int, kind: str) -> None:
    """In the file the finest level comes first; images of two channels."""
    make: Any = Fast if kind.startswith("fast") else Basic
    norm = "without" not in kind
    module = nn.Module()
    module.backbone_ncas = nn.ModuleList(
        make(dims, 7, 10, kernel, images=2, norm=norm) for kernel in (3, 3, 5)
    )
    randomised(module)
    scales = PYRAMIDS[dims]
    said = answers(
        dims, channels=("T1", "T2"), labels=("a", "b"), steps=(4, 2, 3), scales=scales,
        norm="batch" if norm else "none",
    )  # fmt: skip
    out = tmp_path / "out"
    imported("octree-nca", [saved(module, tmp_path / "model.pth")], out, said)
    x = image(2, *(16, 24, 8)[:dims])
    coarse_first = list(module.backbone_ncas)[::-1]
    with torch.no_grad():
        state = pyramid(
            coarse_first, x, scales, [4, 2, 3], masks_of(out, 1), 7, nearest_smaller
        )  # fmt: skip
    assert_equal(logits_of(out, x), state[..., 2:4].movedim(-1, 1))


def test_octree_nca_with_one_cell_for_all_levels(tmp_path: Path) -> None:
    module = nn.Module()
    module.backbone_nca = Backbone(6, 9, images=2)
    randomised(module)
    out = tmp_path / "out"
    said = answers(2, channels=("a", "b"), scales=PYRAMIDS[2], steps=(2,))
    imported("octree-nca", [saved(module, tmp_path / "model.pth")], out, said)
    x = image(2, 16, 24)
    with torch.no_grad():
        state = pyramid(
            [module.backbone_nca] * 3, x, PYRAMIDS[2], [2] * 3, masks_of(out, 1), 6,
            nearest_smaller,
        )  # fmt: skip
    assert_equal(logits_of(out, x), state[..., 2:3].movedim(-1, 1))


@pytest.mark.parametrize(
    ("filters", "padding", "kernel"),
    [(2, "circular", 3), (3, "reflect", 5), (1, "zeros", 3), (0, None, 3)],
)
@pytest.mark.parametrize("axes", ["xy", "yx"])
def test_ncalab(tmp_path: Path, filters: int, padding: str | None, kernel: int, axes: str) -> None:
    module = randomised(NcaLab(2, 4, 2, 10, filters, padding or "zeros", kernel))
    file, out = tmp_path / "model.safetensors", tmp_path / "out"
    save_model(module, str(file))
    said = answers(
        2, channels=("a", "b"), labels=("c", "d"), steps=(6,), axes=axes, padding=padding,
        filters=None if filters else "sobel",
    )  # fmt: skip
    imported("ncalab", [file], out, said)
    x = image(2, 11, 14)
    turn = axes == "yx"
    masks = masks_of(out, 1)(0, (11, 14))
    given = x.transpose(2, 3) if turn else x
    with torch.no_grad():
        theirs = module(given, 6, lambda s: masks(s).transpose(1, 2) if turn else masks(s))
    assert_equal(logits_of(out, x), theirs.transpose(2, 3) if turn else theirs)


@pytest.mark.parametrize("axes", ["xyz", "yxz", "zyx"])
def test_arrays_with_other_axes(tmp_path: Path, axes: str) -> None:
    """A model of arrays whose axes are turned predicts the turned image as it did."""
    cell = randomised(Basic(3, 5, 8, 3))
    out = tmp_path / "out"
    said = answers(3, axes=axes, scales=((1,),))
    imported("m3d-nca", [saved(cell, tmp_path / "model0.pth")], out, said)
    x = image(1, 6, 7, 8)
    order = ["xyz".index(letter) for letter in axes]
    back = [axes.index(letter) for letter in "xyz"]
    masks = masks_of(out, 1)(0, (6, 7, 8))

    def turned(mask: Tensor) -> Tensor:
        return mask.permute(0, *(1 + place for place in order))

    with torch.no_grad():
        given = x.permute(0, 1, *(2 + place for place in order))
        first = torch.cat((given, given.new_zeros(1, 4, *given.shape[2:])), 1).movedim(1, -1)
        state = cell.run(first, 3, lambda step: turned(masks(step)))
    theirs = state[..., 1:2].movedim(-1, 1).permute(0, 1, *(2 + place for place in back))
    assert_equal(logits_of(out, x), theirs)


def test_the_published_fire_rate_means_the_opposite(tmp_path: Path) -> None:
    def rate(family: str, module: nn.Module, **more: Any) -> float:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        file = saved(randomised(module), tmp_path / f"{out.name}.pth")
        result = imported(family, [file], out, answers(2, fire_rate=0.2, **more))
        model = result.spec.model
        assert model.family == "nca"
        return model.cell.fire_rate

    slow, fast = nn.Module(), nn.Module()
    slow.backbone_nca, fast.backbone_nca = Basic(2, 5, 8, 3), Fast(2, 5, 8, 3)
    tree = {"scales": ((1,),), "norm": "batch"}
    assert rate("octree-nca", slow, **tree) == pytest.approx(0.8)
    assert rate("octree-nca", fast, **tree) == pytest.approx(0.2)
    assert rate("ncalab", NcaLab(1, 3, 1, 8, 2), padding="circular") == pytest.approx(0.2)


def test_names_of_wrappers_are_left_out(tmp_path: Path) -> None:
    cell = randomised(Basic(3, 5, 8, 3))
    tensors = {f"module._orig_mod.{name}": t for name, t in cell.state_dict().items()}
    torch.save(tensors, tmp_path / "model0.pth")
    out = tmp_path / "out"
    imported("m3d-nca", [tmp_path / "model0.pth"], out, answers(3, scales=((1,),)))
    saved(cell, tmp_path / "plain.pth")
    imported("m3d-nca", [tmp_path / "plain.pth"], tmp_path / "b", answers(3, scales=((1,),)))
    x = image(1, 6, 6, 6)
    assert torch.equal(logits_of(out, x), logits_of(tmp_path / "b", x))


def test_the_imported_model_is_one_of_the_ordinary_kind(tmp_path: Path) -> None:
    from medseg_nca.inference.bundle import load_bundle

    cell = randomised(Basic(3, 5, 8, 3))
    out = tmp_path / "out"
    file = saved(cell, tmp_path / "model0.pth")
    imported("m3d-nca", [file], out, answers(3, scales=((1,),)), name="liver")
    loaded = load_bundle(out, "cpu")
    assert isinstance(loaded.model, MultiLevelNca)
    assert loaded.spec.name == "liver"
    assert loaded.model.parameter_count() == sum(p.numel() for p in cell.parameters())
