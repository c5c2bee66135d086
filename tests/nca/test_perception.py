"""Perception against numbers worked by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.border import border_index
from medseg_nca.nca.depthwise import depthwise
from medseg_nca.nca.parts import make_perception


def ramp(dims: int, axis: int, size: int = 5) -> torch.Tensor:
    """A state of one channel that rises by 1 a cell along one axis: ``(1, *spatial, 1)``."""
    shape = [size if a == axis else 1 for a in range(dims)]
    line = torch.arange(float(size)).view(1, *shape, 1)
    return line.expand(1, *(size,) * dims, 1).contiguous()


@pytest.mark.parametrize("dims", [2, 3])
def test_sobel_gives_the_slope_of_a_ramp(dims: int) -> None:
    perception = make_perception(PerceptionSettings(kind="sobel"), 1, dims)
    assert perception.features == dims
    for axis in range(dims):
        seen = perception(ramp(dims, axis))
        middle = seen[(0, *(2,) * dims)]
        assert middle.tolist() == [1.0 if a == axis else 0.0 for a in range(dims)]


@pytest.mark.parametrize("dims", [2, 3])
def test_laplace_gives_the_curvature_of_a_parabola(dims: int) -> None:
    perception = make_perception(PerceptionSettings(kind="laplace"), 1, dims)
    parabola = sum(ramp(dims, axis) ** 2 for axis in range(dims))
    assert perception(parabola)[(0, *(2,) * dims)].item() == 2.0 * dims
    assert perception(ramp(dims, 0))[(0, *(2,) * dims)].item() == 0.0


def test_fixed_filters_have_no_parameters() -> None:
    perception = make_perception(PerceptionSettings(kind="sobel_laplace"), 4, 3)
    assert perception.features == 4 * 4
    assert not list(perception.parameters())


@pytest.mark.parametrize(
    ("size", "width", "padding", "expected"),
    [
        (4, 2, "reflect", [2, 1, 0, 1, 2, 3, 2, 1]),
        (4, 2, "circular", [2, 3, 0, 1, 2, 3, 0, 1]),
        (2, 3, "reflect", [1, 0, 1, 0, 1, 0, 1, 0]),
        (1, 3, "reflect", [0] * 7),
        (1, 1, "circular", [0, 0, 0]),
    ],
)
def test_border(size: int, width: int, padding: str, expected: list[int]) -> None:
    assert border_index(size, width, padding).tolist() == expected


@pytest.mark.parametrize("padding", ["zero", "reflect", "circular"])
@pytest.mark.parametrize("dims", [2, 3])
def test_padding_is_torchs(dims: int, padding: str) -> None:
    settings = PerceptionSettings(kind="depthwise", kernel=3, padding=padding, filters=2)  # type: ignore[arg-type]
    perception = make_perception(settings, 3, dims)
    state = torch.randn(2, *(5, 4, 6)[:dims], 3)
    mode = "constant" if padding == "zero" else padding
    padded = F.pad(state.movedim(-1, 1), (1,) * 2 * dims, mode=mode)
    conv = F.conv2d if dims == 2 else F.conv3d
    expected = conv(padded, perception.weight, perception.bias, groups=3).movedim(1, -1)
    torch.testing.assert_close(perception(state), expected)


@given(
    channels=st.integers(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=3),
)
def test_depthwise_gradients(channels: int, kernel: int, sizes: list[int]) -> None:
    x = torch.randn(2, channels, *sizes, dtype=torch.float64, requires_grad=True)
    shape = (channels, 1, *(kernel,) * len(sizes))
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(channels, dtype=torch.float64, requires_grad=True)

    def call(*args: torch.Tensor) -> torch.Tensor:
        return depthwise(args[0], args[1], args[2], kernel // 2)

    assert torch.autograd.gradcheck(call, (x, weight, bias))
