"""Parts that a program adds by itself, without a package."""

from __future__ import annotations

from tests.plugins.processes import python

PROGRAM = """\
from medseg_nca.datasets.find import ADAPTERS
from medseg_nca.errors import PluginError
from medseg_nca.losses import create_loss, loss_names
from medseg_nca.registry import add_entry
from torch import nn

class Mine(nn.Module):
    def __init__(self, weight): super().__init__(); self.weight = weight

assert "mine" not in loss_names()
add_entry("medseg_nca.losses", "mine", lambda multi_label: Mine(0))
add_entry("medseg_nca.losses", "mine", lambda multi_label, weight=1: Mine(weight))
assert "mine" in loss_names()
assert create_loss("mine", multi_label=False, weight=3).weight == 3  # the later one counts
add_entry("medseg_nca.losses", "dice", lambda multi_label: Mine(0))
assert type(create_loss("dice", multi_label=False)).__name__ == "DiceLoss"  # the library's own
add_entry("medseg_nca.adapters", "odd", 7)
assert "odd" in ADAPTERS.names
try:
    ADAPTERS.get("odd")
except PluginError as error:
    print(error)
"""


def test_a_part_is_added_for_this_process_alone() -> None:
    done = python([], "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    assert "'odd' that was added here (medseg_nca.adapters) cannot be used" in done.stdout
    assert "a int is no data format" in done.stdout
    assert "left out is 'dice' that was added here" in done.stderr
