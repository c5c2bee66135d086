"""The suite that every registered model passes, and the published parameter counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_model

from medseg_nca.config.model import LevelSettings
from medseg_nca.errors import ConfigError, Interrupted
from medseg_nca.job import Job
from medseg_nca.models import RunOptions, SegmentationModel, create_model, model_names
from medseg_nca.models.describe import describe
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.models.tiling import LevelNeed, least, plan_tiles
from medseg_nca.models.views import View, cut_views
from medseg_nca.nca.engines import get_engine

NETWORKS = ("dynunet", "segresnet", "unet")
SIZES = {2: (21, 18), 3: (17, 10, 12)}


def small(name: str, dims: int, **changes: Any) -> SegmentationModel:
    """The model of a preset, with few steps, whose update rules are not zero."""
    options: dict[str, Any] = {"dims": dims, "in_channels": 2, "out_channels": 3, **changes}
    if name not in NETWORKS:
        preset = create_model(name, dims=dims, in_channels=1, out_channels=1)
        assert isinstance(preset, MultiLevelNca)
        levels = preset.settings.resolved_levels
        options["levels"] = [
            level.model_copy(
                update={"steps": (2, 3), "patch": 4 if level.patch else None}
            ).model_dump()
            for level in levels
        ]
    model = create_model(name, **options)
    for cell in getattr(model, "cells", ()):
        torch.nn.init.normal_(cell.update.output.weight, std=0.1)
    return model


every_model = pytest.mark.parametrize("name", model_names())
both_dims = pytest.mark.parametrize("dims", [2, 3])


@every_model
@both_dims
def test_logits_have_the_size_of_the_image(name: str, dims: int) -> None:
    model = small(name, dims).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 2, *SIZES[dims]))
    assert logits.shape == (2, 3, *SIZES[dims])
    assert torch.isfinite(logits).all()


@every_model
@both_dims
def test_every_parameter_learns(name: str, dims: int) -> None:
    model = small(name, dims).train()
    image = torch.randn(2, 2, *(32,) * dims)
    outputs = model.training_outputs(cut_views(image, model.views, 1), seed=1)
    sum(output.logits.square().mean() for output in outputs).backward()  # type: ignore[union-attr]
    gradients = {n: p.grad for n, p in model.named_parameters()}
    sizes = {n: 0.0 if g is None else float(g.abs().max()) for n, g in gradients.items()}
    still = [n for n, size in sizes.items() if not size > 1e-6 * max(sizes.values())]
    # A bias before a batch or instance normalisation cannot have an effect.
    assert [n for n in still if not n.endswith(".bias")] == []
    assert len(still) < len(sizes) / 2
    if isinstance(model, MultiLevelNca) and model.settings.cell.update.norm != "batch":
        assert still == []


@every_model
def test_saved_and_loaded_it_says_the_same(name: str, tmp_path: Path) -> None:
    model, other = small(name, 2).eval(), small(name, 2).eval()
    save_model(model, str(tmp_path / "weights.safetensors"))
    load_model(other, str(tmp_path / "weights.safetensors"))
    image = torch.randn(1, 2, 16, 16)
    with torch.no_grad():
        assert torch.equal(model(image), other(image))


@every_model
def test_the_seed_decides(name: str) -> None:
    model, image = small(name, 2).eval(), torch.randn(1, 2, 16, 16)
    with torch.no_grad():
        first, again, other = (
            model(image, RunOptions(seed=seed, fire="sample")) for seed in (1, 1, 2)
        )
    assert torch.equal(first, again)
    assert torch.equal(first, other) is not model.stochastic


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [
        ("med_nca", {"dims": 2}, 25_920),
        ("med_nca", {"dims": 2, "cell": {"channels": 32}}, 70_016),
        ("m3d_nca", {"dims": 3}, 12_480),
        ("octree_nca", {"dims": 3}, 17_600),
    ],
)
def test_published_parameter_counts(name: str, changes: dict[str, Any], count: int) -> None:
    assert create_model(name, in_channels=1, out_channels=1, **changes).parameter_count() == count


def test_a_memory_budget_changes_nothing() -> None:
    model = small("octree_nca", 3).eval()
    image = torch.randn(1, 2, 40, 36, 33)
    with torch.no_grad():
        whole = model(image)
        tiles = model(image, RunOptions(memory_gb=0.003))
    torch.testing.assert_close(tiles, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("focus", [None, {"margin": 1}])
@pytest.mark.parametrize("steps", [3, 14])
def test_ways_through_the_grid_change_nothing(steps: int, focus: Any, precision: Any) -> None:
    """Few steps run in tiles of their own, many in tiles that exchange their borders."""
    model = create_model(
        "pyramid_nca", dims=2, in_channels=1, out_channels=2, focus=focus, engine="reference",
        levels=[{"scale": 2, "steps": 2}, {"scale": 1, "steps": steps, "patch": 8}],
    ).eval()  # fmt: skip
    assert isinstance(model, MultiLevelNca)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    image = 0.1 * torch.randn(2, 1, 91, 75)
    image[..., 30:40, 20:60] = 3.0
    told: list[tuple[int, int | None]] = []
    job = Job(lambda progress: told.append((progress.done, progress.total)))
    watched = RunOptions(seed=2, precision=precision, memory_gb=1e-3, job=job)
    with torch.inference_mode():
        whole = model(image, RunOptions(seed=2, precision=precision))
        tiles = model(image, watched)
    torch.testing.assert_close(tiles, whole, rtol=1e-4, atol=1e-4 if precision[0] == "f" else 0.05)
    assert len(told) > 6
    assert told == sorted(told)
    assert {total for _, total in told} == {told[-1][0]}


def test_who_watches_may_stop_a_model() -> None:
    job = Job(lambda progress: job.cancel())
    with torch.inference_mode(), pytest.raises(Interrupted):
        small("octree_nca", 2).eval()(torch.randn(1, 2, 32, 32), RunOptions(job=job))


def test_the_way_with_the_least_work_that_fits_is_taken() -> None:
    def need(steps: int, local: bool = True, stored: float = 20.0) -> LevelNeed:
        return LevelNeed((256, 256), steps, 1, min(12, steps), local, 100.0, stored)

    everything = 256 * 256 * 100.0
    assert plan_tiles(need(5), None).way == "whole"
    assert plan_tiles(need(5), everything).way == "whole"
    half = plan_tiles(need(5), 0.99 * everything)
    assert (half.way, half.size) == ("alone", (128, 256))
    assert half.work == pytest.approx(2 * 133 / 256)
    assert plan_tiles(need(60), 0.7 * everything).way == "in place"
    # Tiles of their own need no state of the whole grid, at the price of wide halos.
    assert plan_tiles(need(60, stored=80.0), 2.4e6).way == "alone"
    assert plan_tiles(need(5), 1.0) == least(need(5))
    assert least(need(5)).size == (32, 32)
    assert plan_tiles(need(5, local=False), 1.0).way == "whole"


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_tiles_follow_what_the_engine_needs(kind: torch.dtype) -> None:
    cell = create_model("octree_nca", in_channels=1, out_channels=1).cell(0)
    state = torch.empty(1, cell.channels, 64, 64, 64, dtype=kind)
    auto, cpu, plain = (get_engine(name) for name in ("auto", "cpu", "reference"))
    assert auto.bytes_per_cell(cell, state) == cpu.bytes_per_cell(cell, state)
    assert cpu.bytes_per_cell(cell, state) < plain.bytes_per_cell(cell, state) / 3
    needs = [
        create_model(
            "octree_nca", in_channels=1, out_channels=1, engine=name
        ).least_bytes((200, 200, 200), RunOptions())
        for name in ("cpu", "reference")
    ]  # fmt: skip
    assert needs[0] < needs[1]


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_bfloat16_is_for_inference(engine: str) -> None:
    model = create_model("octree_nca", in_channels=1, out_channels=1, engine=engine).eval()
    image, options = torch.randn(1, 1, 20, 18, 16), RunOptions(precision="bfloat16")
    with torch.inference_mode():
        assert model(image, options).dtype == torch.float32
    with pytest.raises(ConfigError, match="bfloat16"):
        model(image, options)


def test_patches_hold_the_focus_and_nest() -> None:
    patches = {4: None, 2: 8, 1: 6}
    levels = [{"scale": s, "steps": 1, "patch": patch} for s, patch in patches.items()]
    model = create_model("octree_nca", in_channels=1, out_channels=2, dims=2, levels=levels)
    focus = [(31, 0), None, (16, 17)]
    for seed in range(20):
        views = cut_views(torch.zeros(3, 1, 32, 40), model.views, seed, focus)
        outputs = model.training_outputs(views, seed)
        sizes = [tuple(output.logits.shape[2:]) for output in outputs]
        assert sizes == [(8, 10), (8, 8), (6, 6)]
        _, middle, fine = (view.starts.tolist() for view in views)
        for outer, inner, point in zip(middle, fine, focus, strict=True):
            assert all(2 * o <= i <= 2 * o + 16 - 6 for o, i in zip(outer, inner, strict=True))
            if point is not None:
                assert all(i <= p < i + 6 for i, p in zip(inner, point, strict=True))


def test_a_patch_sees_what_the_whole_sees() -> None:
    """Far from the patch's border, training on a patch computes what inference computes there."""
    levels = [{"scale": 2, "steps": 2}, {"scale": 1, "steps": 2, "patch": 11}]
    model = create_model(
        "pyramid_nca", dims=2, in_channels=1, out_channels=2, levels=levels, cell={"fire_rate": 1.0}
    )
    assert isinstance(model, MultiLevelNca)
    for cell in model.cells:
        torch.nn.init.normal_(cell.update.output.weight, std=0.1)
    image = torch.randn(1, 1, 24, 24)
    with torch.no_grad():
        whole = model(image)
        for seed in range(6):
            views = cut_views(image, model.views, seed)
            fine = model.training_outputs(views, seed)[-1]
            x, y = views[-1].starts[0].tolist()
            inner = fine.logits[..., 2:-2, 2:-2]
            torch.testing.assert_close(inner, whole[..., x + 2 : x + 9, y + 2 : y + 9])


@pytest.mark.parametrize("dims", [2, 3])
def test_several_patches_of_a_view_are_as_each_alone(dims: int) -> None:
    levels = [
        {"scale": 4, "steps": 2},
        {"scale": 2, "steps": 2, "patch": 6, "patches": 2},
        {"scale": 1, "steps": 2, "patch": 5, "patches": 3},
    ]
    model = create_model(
        "pyramid_nca", dims=dims, in_channels=1, out_channels=2, levels=levels,
        cell={"fire_rate": 1.0},
    )  # fmt: skip
    assert isinstance(model, MultiLevelNca)
    for cell in model.cells:
        torch.nn.init.normal_(cell.update.output.weight, std=0.1)
    for context in model.contexts:
        torch.nn.init.normal_(context.weight, std=0.1)
    views = cut_views(torch.randn(2, 1, *(32,) * dims), model.views, seed=3)
    assert [len(view.image) for view in views] == [2, 4, 12]
    together = model.training_outputs(views, seed=0)
    for number in range(12):
        chosen = [slice(n // (12 // k), n // (12 // k) + 1) for n, k in ((number, 2), (number, 4))]
        chosen.append(slice(number, number + 1))
        alone = [View(v.image[c], v.starts[c]) for v, c in zip(views, chosen, strict=True)]
        for found, whole, part in zip(
            model.training_outputs(alone, seed=0), together, chosen, strict=True
        ):
            torch.testing.assert_close(found.logits, whole.logits[part], rtol=1e-4, atol=1e-5)


def test_steps_are_recorded_level_by_level() -> None:
    model, seen = small("med_nca", 2).eval(), []
    with torch.no_grad():
        model(torch.randn(1, 2, 16, 16), RunOptions(record=lambda level, _: seen.append(level)))
    assert seen == [0, 0, 1, 1]


def test_shared_weights_are_counted_once() -> None:
    model = create_model("cascade_nca", in_channels=1, out_channels=2)
    single = create_model("cascade_nca", in_channels=1, out_channels=2, levels=[{"scale": 1}])
    assert model.parameter_count() == single.parameter_count()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 14, "out_channels": 3}, "at least 17"),
        ({"levels": [{"scale": 4}, {"scale": 3}]}, "not a multiple"),
        ({"levels": [{"scale": (2, 2)}]}, "2 values for a model of 3 axes"),
        ({"levels": []}, "at least one level"),
        ({"levels": [{"kernel": 4}]}, "kernel must be odd"),
        ({"levels": [{"loss_weight": 0}]}, "loss_weight above 0"),
        ({"cell": {"perception": {"kind": "sobel", "kernel": 5}}}, "'sobel' does not read kernel"),
        ({"cell": {"chanels": 8}}, "chanels"),
        ({"in_channels": None}, "needs in_channels"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("m3d_nca", **{"in_channels": 1, "out_channels": 1, **changes})


def test_unknown_models_and_parameters() -> None:
    with pytest.raises(ConfigError, match="did you mean 'med_nca'"):
        create_model("mednca", in_channels=1, out_channels=1, levels=[LevelSettings().model_dump()])
    with pytest.raises(ConfigError, match="did you mean 'strides'"):
        create_model("unet", in_channels=1, out_channels=1, params={"stride": (2, 2)})


def test_description_of_a_model() -> None:
    model = create_model("m3d_nca", in_channels=1, out_channels=1)
    assert isinstance(model, MultiLevelNca)
    described = describe(model.settings, (64, 64, 64))
    assert described.parameters == 12_480
    coarse, fine = described.levels
    assert (coarse.grid, coarse.parameters) == ((16, 16, 16), 8_768)
    assert coarse.receptive_field == ((2 * 20 * 3 + 1) * 4,) * 3
    # 2 * 16 * 27 for the filters, 2 * 64 * (32 + 16) for the products, half the cells in 40 steps.
    assert fine.flop == (2 * 16 * 27 + 2 * 64 * 48) * 64**3 * 40 * 0.5


def test_coarse_levels_get_a_share_of_the_gradient_of_finer_ones() -> None:
    def gradients(share: float) -> tuple[torch.Tensor, torch.Tensor | None]:
        torch.manual_seed(0)
        levels = [{"scale": 4, "steps": 3}, {"scale": 1, "steps": 3}]
        model = create_model(
            "pyramid_nca", dims=2, in_channels=1, out_channels=2, levels=levels,
            coarse_gradient=share, engine="reference",
        )  # fmt: skip
        for parameter in model.parameters():  # update rules begin with zeros
            torch.nn.init.normal_(parameter, std=0.1)
        image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
        coarse, fine = model.training_outputs(cut_views(image, model.views, 0), seed=0)
        of_coarse, of_fine = (
            torch.autograd.grad(
                output.logits[:, 0].mean(), model.cell(0).update.output.weight,
                retain_graph=True, allow_unused=True,
            )[0]
            for output in (coarse, fine)
        )  # fmt: skip
        return of_coarse, of_fine

    coarse, fine = gradients(1.0)
    lessened_coarse, lessened_fine = gradients(0.25)
    assert fine is not None
    assert lessened_fine is not None
    assert fine.abs().max() > 0
    torch.testing.assert_close(lessened_coarse, coarse)
    torch.testing.assert_close(lessened_fine, 0.25 * fine)
    assert gradients(0.0)[1] is None
