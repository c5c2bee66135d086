"""The batch norm over all cells, firing or not, as the published automata have it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medseg_nca.errors import ConfigError
from medseg_nca.nca import Fire
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.engines.auto import chosen_name
from tests.nca.cells import make_cell


@pytest.mark.parametrize("dims", [2, 3])
def test_the_statistics_are_those_of_all_cells(dims: int) -> None:
    cell = make_cell(dims, norm="batch_all")
    state = torch.rand(2, 5, *(4, 6, 5)[:dims], dtype=torch.float64)
    fire = Fire.for_batch(0.5, seed=4, batch=2)
    after = get_engine("reference").roll_out(cell, state, 1, fire)

    rows = state.movedim(1, -1)
    seen = torch.cat((rows, cell.perceive(rows)), -1).flatten(0, -2)
    update = cell.update
    hidden = torch.nn.functional.batch_norm(
        update.hidden(seen), None, None, update.scale, update.shift, training=True
    )
    change = update.output(hidden.relu()).view(*rows.shape[:-1], -1)
    mask = fire.mask(fire.positions(state.shape[2:], state.device), 0).unsqueeze(-1)
    assert 0 < mask.double().mean() < 1
    torch.testing.assert_close(after[:, 1:], (rows[..., 1:] + change * mask).movedim(-1, 1))
    assert torch.equal(after[:, :1], state[:, :1])


def test_if_all_cells_fire_it_is_the_other_batch_norm() -> None:
    alike = [make_cell(2, norm=norm) for norm in ("batch", "batch_all")]
    state = torch.rand(1, 5, 7, 6, dtype=torch.float64)
    fire = Fire.for_batch(0.5, seed=4, batch=1)
    engine = get_engine("reference")
    for always in (replace(fire, rate=1.0), replace(fire, mode="mean")):
        one, other = (engine.roll_out(cell, state, 3, always) for cell in alike)
        torch.testing.assert_close(one, other)
    one, other = (engine.roll_out(cell, state, 3, fire) for cell in alike)
    assert not torch.allclose(one, other, rtol=1e-3)


def test_only_the_reference_engine_computes_it() -> None:
    cell = make_cell(2, norm="batch_all", dtype=torch.float32)
    state = torch.rand(1, 5, 7, 6)
    assert not cell.local
    assert chosen_name(cell, state) == "reference"
    with pytest.raises(ConfigError, match=r"does not serve cell\.update\.norm batch_all"):
        get_engine("cpu").roll_out(cell, state, 1, Fire.for_batch(0.5, 0, 1))


def test_a_training_step_keeps_what_all_cells_need() -> None:
    """Also of the cells that do not fire: at any fire rate as if all did."""
    state = torch.rand(1, 5, 7, 6, dtype=torch.float64)
    kept = {}
    for norm in ("batch", "batch_all"):
        cell = make_cell(2, norm=norm)
        for rate in (0.1, 1.0):
            cell.settings = cell.settings.changed(fire_rate=rate)
            kept[norm, rate] = get_engine("reference").bytes_kept(cell, state)
    assert kept["batch_all", 0.1] == kept["batch_all", 1.0] == kept["batch", 1.0]
    assert kept["batch", 0.1] < kept["batch", 1.0]
