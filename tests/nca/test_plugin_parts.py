"""Parts of other packages that the compiled loops could misread: refused, or left to the reference.

They derive from parts of the library, whose weights the compiled engines take.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg_nca.config.model import CellSettings, PerceptionSettings
from medseg_nca.errors import ConfigError, PluginError
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.engines.auto import chosen_name
from medseg_nca.nca.perceptions.base import FilterBank, FilterPerception, Perception
from medseg_nca.nca.perceptions.concat import ConcatPerception
from medseg_nca.nca.perceptions.sobel import SobelPerception
from medseg_nca.nca.update_rules.mlp import MlpRule
from medseg_nca.registry import add_entry

CHANNELS = 4


class Given(FilterPerception):
    """Filters of any shape."""

    def __init__(
        self, settings: PerceptionSettings, channels: int, dims: int, *,
        shape: list[int], mixes: bool = False, bias: int | None = None,
    ) -> None:  # fmt: skip
        values = None if bias is None else nn.Parameter(torch.ones(bias))
        super().__init__(settings, channels, dims, torch.ones(*shape), values, mixes=mixes)


class Claimed(Perception):
    """A bank that says another size than its weights have."""

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        super().__init__(settings, channels, dims)
        self.features, self.radius = channels, 2
        self.bank = FilterBank(5, False, 1)

    def filters(self) -> tuple[Tensor, Tensor | None]:
        return torch.ones(self.channels, 1, *(3,) * self.dims), None


class Narrow(Perception):
    """Gives half of the features that it says, of twice as many cells."""

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        super().__init__(settings, channels, dims)
        self.features, self.radius = 2 * channels, 0

    def forward(self, state: Tensor) -> Tensor:
        return torch.cat((state, state))


class Size(SobelPerception):
    """The size of a derivative, without its sign."""

    def forward(self, state: Tensor) -> Tensor:
        return super().forward(state).abs()


class Joined(ConcatPerception):
    def forward(self, state: Tensor) -> Tensor:
        return super().forward(state).tanh()


class Doubled(SobelPerception):
    """Other weights, computed as a bank is: it may be compiled."""

    def filters(self) -> tuple[Tensor, Tensor | None]:
        return 2 * self.weight, self.bias


class Soft(MlpRule):
    def forward(self, perceived: Tensor) -> Tensor:
        return super().forward(perceived).tanh()


class Waves(MlpRule):
    def hidden_values(self, perceived: Tensor) -> Tensor:
        return super().hidden_values(perceived).sin()


class Plain(MlpRule):
    """The same as the library's."""


for _part in (Given, Claimed, Narrow, Size, Joined, Doubled):
    add_entry("medseg_nca.perceptions", f"test_{_part.__name__.lower()}", _part)
for _rule in (Soft, Waves, Plain):
    add_entry("medseg_nca.update_rules", f"test_{_rule.__name__.lower()}", _rule)


def cell_of(dims: int = 3, **tree: Any) -> Cell:
    tree.setdefault("perception", {"kind": "sobel"})
    settings = CellSettings.model_validate({"channels": CHANNELS, **tree})
    torch.manual_seed(1)
    cell = Cell(settings, 1, dims)
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.4)
    return cell


@pytest.mark.parametrize(
    ("shape", "more"),
    [
        ([CHANNELS, 1, 1, 1, 3], {}),
        ([CHANNELS, 1, 2, 2, 2], {}),
        ([CHANNELS, 1, 3, 3], {}),
        ([CHANNELS, 2, 3, 3, 3], {}),
        ([CHANNELS + 1, 1, 3, 3, 3], {}),
        ([0, 1, 3, 3, 3], {}),
        ([5, 1, 3, 3, 3], {"mixes": True}),
        ([CHANNELS, 1, 3, 3, 3], {"bias": CHANNELS - 1}),
    ],
)
def test_filters_of_another_shape_are_refused(shape: list[int], more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"(weight|bias) must be .* got \("):
        cell_of(perception={"kind": "test_given", "params": {"shape": shape, **more}})


@torch.no_grad()
def test_a_perception_that_is_not_what_it_says_is_refused() -> None:
    with pytest.raises(PluginError, match=r"test_claimed.*its weight is .* its bank says"):
        cell_of(perception={"kind": "test_claimed"})
    cell, state = cell_of(2, perception={"kind": "test_narrow"}), torch.rand(1, CHANNELS, 3, 3)
    with pytest.raises(PluginError, match=r"'test_narrow' gives the shape \(2, 3, 3, 4\)"):
        roll_out(get_engine(), cell, state, 1, Fire.for_batch(1.0, 0, 1))


@pytest.mark.parametrize(
    ("tree", "refused"),
    [
        ({"perception": {"kind": "test_size"}}, "cell.perception.kind test_size"),
        (
            {"perception": {"kind": "test_joined", "params": {"parts": ["sobel"]}}},
            "cell.perception.kind test_joined",
        ),
        (
            {"perception": {"kind": "concat", "params": {"parts": ["sobel", "test_size"]}}},
            "cell.perception.kind concat",
        ),
        ({"perception": {"kind": "test_doubled"}}, None),
        ({"update": {"kind": "test_soft"}}, "cell.update.kind test_soft"),
        ({"update": {"kind": "test_waves"}}, "cell.update.kind test_waves"),
        ({"update": {"kind": "test_plain"}}, None),
    ],
)
@torch.no_grad()
def test_what_a_derived_part_computes_is_what_is_computed(
    tree: dict[str, Any], refused: str | None
) -> None:
    cell, state = cell_of(2, **tree), torch.randn(2, CHANNELS, 9, 6)
    cpu, fire = get_engine("cpu"), Fire.for_batch(0.7, 3, 2)
    assert cpu.refuses(cell, state) == refused
    assert chosen_name(cell, state) == ("reference" if refused else "cpu")
    wanted = roll_out(get_engine("reference"), cell, state, 2, fire)
    found = roll_out(get_engine(), cell, state, 2, fire)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
