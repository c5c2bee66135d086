"""Names of cases, and what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.benchmark.cases import DEFAULT_CASES, Workload, sweep
from medseg_nca.benchmark.step import flop_per_step
from medseg_nca.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("3d_64_c16_h64_k3", Workload(3, 64, 16, 64, 3)),
        ("2d_256_c16_h128_k3_f2", Workload(2, 256, 16, 128, 3, filters=2)),
        ("2d_256_c16_h128_k3_conv2", Workload(2, 256, 16, 128, 3, filters=2, full=True)),
        ("3d_8_c4_h8_k7_conv1", Workload(3, 8, 4, 8, 7, full=True)),
    ],
)
def test_a_name_says_everything(name: str, case: Workload) -> None:
    assert Workload.parse(name) == case
    assert case.name == name


@given(
    dims=st.sampled_from([2, 3]),
    size=st.integers(1, 99_999),
    channels=st.integers(2, 99_999),
    hidden=st.integers(1, 99_999),
    kernel=st.integers(0, 40).map(lambda n: 2 * n + 1),
    filters=st.integers(1, 99_999),
    full=st.booleans(),
)
def test_every_case_is_found_by_its_name(
    dims: int, size: int, channels: int, hidden: int, kernel: int, filters: int, full: bool
) -> None:
    case = Workload(dims, size, channels, hidden, kernel, filters, full)
    assert Workload.parse(case.name) == case


@pytest.mark.parametrize(
    "name",
    ["", "3d", "64_c16_h64_k3", "4d_64_c16_h64_k3", "3d_064_c16_h64_k3", "3d_64_c16_h64_k4",
     "3d_64_c1_h64_k3", "3d_0_c16_h64_k3", "3d_64_c16_h64_k3_f1", "3d_64_c16_h64_k3_conv",
     "3d_64_c16_h64_k3\n", "3D_64_C16_H64_K3", "3d_64_c16_h64_k3_f2_conv2"],
)  # fmt: skip
def test_other_names_are_refused_with_the_form(name: str) -> None:
    with pytest.raises(ConfigError, match="is not the name of a case") as error:
        Workload.parse(name)
    assert "3d_64_c16_h64_k3" in str(error.value.hint)


def test_the_settings_are_those_of_the_name() -> None:
    cell = Workload.parse("2d_16_c6_h10_k5_conv2").settings
    assert (cell.channels, cell.update.hidden, cell.fire_rate) == (6, 10, 0.5)
    assert (cell.perception.kind, cell.perception.kernel) == ("conv", 5)
    assert cell.perception.filters == 2


def test_a_case_beyond_all_cells_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"3d_8_c99999_h8_k3: channels: .* 1024"):
        _ = Workload.parse("3d_8_c99999_h8_k3").settings


def test_operations_by_hand() -> None:
    """Filters 4 * 27; the hidden units read 4 + 4 values and give 3, the image being fixed."""
    per_cell = 2 * (4 * 27) + 2 * 8 * (4 + 4) + 2 * 8 * 3
    assert flop_per_step(Workload.parse("3d_8_c4_h8_k3")) == per_cell * 8**3 / 2
    per_cell = 2 * (2 * 4 * 4 * 9) + 2 * 8 * (4 + 8) + 2 * 8 * 3
    assert flop_per_step(Workload.parse("2d_8_c4_h8_k3_conv2")) == per_cell * 8**2 / 2


def test_the_sweep_grows_one_thing_at_a_time() -> None:
    base = Workload.parse("3d_64_c16_h64_k3")
    axes = sweep(base, 10)
    assert [case.size for case, _ in axes["size"]] == [16, 32, 48, 64]
    assert {steps for _, steps in axes["size"]} == {10}
    assert {case.name for case, _ in axes["steps"]} == {"3d_32_c16_h64_k3"}
    assert [steps for _, steps in axes["steps"]] == [1, 2, 5, 10, 20]
    assert [case.channels for case, _ in axes["channels"]] == [8, 16, 24, 32]


def test_the_default_cases_have_names() -> None:
    assert [case.name for case in DEFAULT_CASES] == [
        "3d_64_c16_h64_k3", "3d_64_c16_h64_k7", "2d_256_c16_h128_k3_f2", "2d_256_c16_h128_k3_conv2",
    ]  # fmt: skip
