"""Perceptions and update rules: against the reference on every engine, in tiles, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medseg_nca.config.model import CellSettings, NcaModelSettings, PerceptionSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models import build_model, create_model
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import ENGINES, Engine, get_engine
from medseg_nca.nca.parts import make_perception, make_update_rule
from medseg_nca.nca.update_rules.base import CellShape
from tests.nca.cells import assert_agree, outcome

REFERENCE: Engine = get_engine("reference")
DEPTHWISE = {"kind": "depthwise"}
ATTENTION = {"kind": "attention", "params": {"heads": 2, "width": 3}}
FIXED = {"kind": "concat", "params": {"parts": ["sobel", "laplace", {"kernel": 5}]}}
FAR = {"kind": "concat", "params": {"parts": [{"kind": "sobel", "dilation": 2}, {"dilation": 2}]}}
MIXED = {"kind": "concat", "params": {"parts": ["conv", ATTENTION, {"dilation": 2}]}}
CELLS: dict[str, dict[str, Any]] = {
    "dilated": {"perception": {"kind": "depthwise", "dilation": 3, "filters": 2}},
    "dilated convolution": {"perception": {"kind": "conv", "dilation": 2}},
    "attention": {"perception": ATTENTION},
    "filters joined": {"perception": FIXED},
    "dilated filters joined": {"perception": FAR},
    "all kinds joined": {"perception": MIXED},
    "gru": {"update": {"kind": "gru", "norm": "rms"}},
    "spectral norm": {"update": {"spectral_norm": True, "activation": "silu"}},
    "spectral norm of a gru": {"update": {"kind": "gru", "spectral_norm": True}},
}
# What the compiled engine for CPUs does not serve, and how it names it.
REFUSED = {
    "attention": "cell.perception.kind attention",
    "all kinds joined": "cell.perception.kind concat",
    "gru": "cell.update.kind gru", "spectral norm of a gru": "cell.update.kind gru",
}  # fmt: skip
every_cell = pytest.mark.parametrize("name", CELLS)
both = pytest.mark.parametrize("dims", [2, 3])


def made(name: str, dims: int, padding: str = "zero", **options: Any) -> Cell:
    """A cell of this kind that changes its state."""
    tree = CELLS.get(name, {})
    perception = {**tree.get("perception", {}), "padding": padding}
    update = {"hidden": 9, **tree.get("update", {})}
    settings = CellSettings.model_validate(
        {"channels": 5, "perception": perception, "update": update, **options}
    )
    torch.manual_seed(1)
    cell = Cell(settings, 1, dims).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return cell


def grid(batch: int, *sizes: int) -> Tensor:
    return torch.randn(batch, 5, *sizes, dtype=torch.float64)


@pytest.mark.parametrize("padding", ["zero", "reflect", "circular"])
@both
@every_cell
def test_every_engine_agrees_or_names_the_part(name: str, dims: int, padding: str) -> None:
    cell, state = made(name, dims, padding), grid(2, *(9, 6, 5)[:dims])
    fire = Fire.for_batch(0.6, 3, 2)
    assert all(grad.abs().max() > 0 for grad in outcome(REFERENCE, cell, state, 2, fire))
    for engine_name, engine in ENGINES.usable():
        refused = engine.refuses(cell, state)
        if engine_name == "cpu":
            assert refused == REFUSED.get(name)
        if refused is None and "cpu" in (engine.devices or ("cpu",)):
            assert_agree(REFERENCE, engine, cell, state, 2, fire, 1e-9)
        elif engine_name == "cpu":
            with pytest.raises(ConfigError, match=f"does not serve {refused}"):
                engine.roll_out(cell, state, 2, fire)


@both
@every_cell
@torch.no_grad()
def test_tiles_give_the_whole(name: str, dims: int) -> None:
    cell, state = made(name, dims), grid(1, *(33, 20, 6)[:dims])
    fire = Fire.for_batch(0.5, 1, 1)
    assert cell.local
    whole = roll_out(REFERENCE, cell, state, 3, fire)
    torch.testing.assert_close(roll_out(REFERENCE, cell, state, 3, fire, tile=(8,) * dims), whole)


@every_cell
@torch.no_grad()
def test_a_model_is_the_same_after_its_files(name: str) -> None:
    changes = {**CELLS[name], "channels": 8}
    model = create_model("backbone_nca", dims=2, in_channels=1, out_channels=2, cell=changes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    text = model.settings.model_dump_json()
    twin = build_model(NcaModelSettings.model_validate_json(text, strict=True))
    twin.load_state_dict(model.state_dict())
    image = torch.rand(1, 1, 16, 12)
    assert torch.equal(twin(image), model(image))


@both
def test_a_dilated_filter_sees_that_far(dims: int) -> None:
    seen = make_perception(PerceptionSettings(kind="sobel", dilation=3), 1, dims)
    line = torch.arange(9.0).view(1, 9, *[1] * (dims - 1), 1)
    ramp = line.expand(1, *(9,) * dims, 1)
    # A ramp of slope 1: the values of the filter lie three cells apart instead of one.
    assert seen(ramp)[(0, *(4,) * dims)].tolist() == [3.0, *[0.0] * (dims - 1)]
    assert seen.radius == 3
    assert not seen(ramp - ramp[0, 4].mean())[(0, *(4,) * dims)][1:].any()


def test_what_is_joined_is_what_the_parts_see() -> None:
    parts = [{"kind": "sobel"}, {"kind": "laplace"}]
    settings = PerceptionSettings(kind="concat", padding="reflect", params={"parts": parts})
    state = torch.randn(1, 6, 7, 3)
    joined = make_perception(settings, 3, 2)(state)
    same = PerceptionSettings(kind="sobel_laplace", padding="reflect")
    torch.testing.assert_close(joined, make_perception(same, 3, 2)(state))


@both
def test_even_attention_is_the_mean_of_the_neighbours_that_exist(dims: int) -> None:
    settings = PerceptionSettings(kind="attention", params={"heads": 1, "width": 2})
    seen = make_perception(settings, 2, dims)
    state = torch.randn(1, *(4,) * dims, 2)
    with torch.no_grad():
        seen.project.weight.zero_()  # queries and keys of 0: every neighbour counts the same
        seen.project.weight[4:] = torch.eye(2)
    normed = torch.nn.functional.layer_norm(state, (2,))
    corner = normed[(0, *(slice(2),) * dims)].reshape(-1, 2).mean(0)
    torch.testing.assert_close(seen(state)[(0, *(0,) * dims)], corner)
    inner = normed[(0, *(slice(3),) * dims)].reshape(-1, 2).mean(0)
    torch.testing.assert_close(seen(state)[(0, *(1,) * dims)], inner)
    with torch.no_grad():  # a large bias of the first offset: only that neighbour counts
        seen.position[0] = 100.0
    torch.testing.assert_close(seen(state)[(0, *(1,) * dims)], normed[(0, *(0,) * dims)])


def test_a_gru_is_that_of_torch() -> None:
    """The same weights in ``torch.nn.GRUCell``, whose hidden state is the cell's."""
    shape = CellShape(channels=4, image_channels=1, features=4, outputs=3)
    settings = CellSettings(update={"kind": "gru", "hidden": 6}).update  # type: ignore[arg-type]
    rule, peer = make_update_rule(settings, shape), torch.nn.GRUCell(6, 3)
    perceived = torch.randn(10, 8)
    assert not rule(torch.zeros(1, 8)).any()  # nothing comes of nothing
    for parameter in rule.parameters():
        torch.nn.init.normal_(parameter)
    with torch.no_grad():
        peer.weight_ih.copy_(rule.gates.weight)
        peer.weight_hh.copy_(rule.memory.weight)
        peer.bias_ih.copy_(rule.gates.bias)
        peer.bias_hh.zero_()
    hidden = torch.relu(rule.hidden(perceived))
    state = perceived[:, 1:4]
    torch.testing.assert_close(rule(perceived), peer(hidden, state) - state)


def test_spectral_norm_bounds_what_a_matrix_does() -> None:
    shape = CellShape(channels=2, image_channels=1, features=1, outputs=1)
    settings = CellSettings(channels=2, update={"hidden": 3, "spectral_norm": True}).update  # type: ignore[arg-type]
    rule = make_update_rule(settings, shape)
    with torch.no_grad():
        rule.hidden.weight.copy_(torch.diag(torch.tensor([4.0, 2.0, -1.0])))
        rule.output.weight.copy_(torch.tensor([[0.3, 0.0, 0.4]]))  # its singular value is 0.5
    layers = rule.layers()
    torch.testing.assert_close(layers.w0, torch.diag(torch.tensor([1.0, 0.5, -0.25])))
    assert torch.equal(layers.w1, rule.output.weight)


@pytest.mark.parametrize("engine", ["reference", "cpu"])
@pytest.mark.parametrize("more", [{}, {"clock": {}}, {"alive": {"channel": 0}}])
@pytest.mark.parametrize("kind", ["clamp", "tanh"])
def test_hidden_values_stay_within_their_bound(kind: str, more: Any, engine: str) -> None:
    free = made("", 2, **more)
    cell = made("", 2, bound={"kind": kind, "limit": 0.5}, **more)
    state, fire = grid(2, 9, 7), Fire.for_batch(0.5, 3, 2)
    state[:, 1:] *= 0.1
    one = roll_out(get_engine(engine), cell, state, 1, fire)
    last = 4 if "clock" in more else 5
    expected = roll_out(REFERENCE, free, state, 1, fire)
    hidden = expected[:, 1:last]
    fired = fire.firing(fire.positions((9, 7), state.device), (9, 7), 0)
    soft = torch.where(fired.unsqueeze(1), 0.5 * torch.tanh(hidden / 0.5), hidden)  # type: ignore[union-attr]
    if not more.get("alive"):  # what dies is zero, which the bound of the values decides
        wanted = soft if kind == "tanh" else hidden.clamp(-0.5, 0.5)
        torch.testing.assert_close(one[:, 1:last], wanted)
        assert torch.equal(one[:, last:], expected[:, last:])
    assert torch.equal(one[:, :1], state[:, :1])
    many = roll_out(get_engine(engine), cell, state, 8, fire)
    assert many[:, 1:last].abs().max() <= 0.5
    assert many[:, 1:last].abs().max() > 0.3
    with torch.no_grad():
        tiles = roll_out(get_engine(engine), cell, state, 8, fire, tile=(4, 4))
    torch.testing.assert_close(tiles, many)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perception": {"kind": "depthwize"}}, "did you mean 'depthwise'"),
        ({"perception": {"kind": "mine"}}, "install that package here too"),
        ({"update": {"kind": "gruu"}}, "did you mean 'gru'"),
        ({"perception": {"kind": "sobel", "filters": 2}}, "'sobel' does not read filters"),
        ({"perception": {"params": {"width": 3}}}, "'sobel' has no params, got 'width'"),
        ({"perception": {"kind": "attention", "params": {"head": 2}}}, "did you mean 'heads'"),
        ({"perception": {"kind": "attention", "params": {"heads": 0}}}, "heads must be a number"),
        ({"perception": {"kind": "attention", "kernel": 19}}, "361 cells, at most 343"),
        ({"perception": {"kind": "attention", "dilation": 2}}, "does not read dilation"),
        (
            {"perception": {**DEPTHWISE, "kernel": 9, "dilation": 8}},
            "see 32 cells far, and 31 are allowed",
        ),
        ({"perception": {"kind": "concat"}}, "needs parts"),
        ({"perception": {"kind": "concat", "params": {"parts": []}}}, "1 to 16 perceptions"),
        ({"perception": {"kind": "concat", "params": {"parts": ["sobl"]}}}, "mean 'sobel'"),
        (
            {"perception": {"kind": "concat", "params": {"parts": [{"kernal": 3}]}}},
            r"parts\.0: unknown key 'kernal'; did you mean 'kernel'",
        ),
        (
            {"perception": {"kind": "concat", "params": {"parts": [{"padding": "zero"}]}}},
            "part 0 sets padding, which all parts share",
        ),
        ({"update": {"kind": "gru", "params": {"keep": "long"}}}, "'gru' cannot be made so"),
    ],
)
def test_parts_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("backbone_nca", in_channels=1, out_channels=2, cell=changes)


def test_a_level_has_a_dilation_of_its_own() -> None:
    levels = [{"scale": 2, "dilation": 3}, {"scale": 1}]
    model = create_model("backbone_nca", dims=2, in_channels=1, out_channels=2, levels=levels)
    assert [cell.radius for cell in model.cells] == [3, 1]
    with pytest.raises(ConfigError, match="share the dilation"):
        create_model("backbone_nca", in_channels=1, out_channels=2, levels=levels,
                     share_weights=True)  # fmt: skip


@pytest.mark.parametrize("name", ["dilated", "attention", "all kinds joined", "gru"])
def test_what_a_step_keeps_is_estimated(name: str) -> None:
    """Bytes that torch keeps for the backward pass of one step, weights left out."""
    cell, state = made(name, 2), grid(1, 30, 30)
    kept: dict[int, int] = {w.untyped_storage().data_ptr(): 0 for w in cell.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage.data_ptr(), storage.nbytes())
        alive.append(tensor)
        return tensor

    alive: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        roll_out(REFERENCE, cell, state.requires_grad_(), 1, Fire.for_batch(0.5, 1, 1))
    ratio = REFERENCE.bytes_kept(cell, state) * 900 / sum(kept.values())
    assert 0.6 < ratio < 1.7
