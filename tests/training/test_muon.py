"""Muon: steps worked out by hand, and what it leaves to AdamW."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from medseg_nca.training.muon import STEP_RMS, Muon, orthogonalised


@pytest.mark.parametrize("shape", [(64, 32), (16, 64), (3, 15), (8, 8)])
def test_orthogonalised_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.25
    # It lies in the direction of the nearest semi-orthogonal matrix.
    nearest = u @ vt
    cosine = (orthogonalised(matrix) * nearest).sum() / (
        nearest.norm() * orthogonalised(matrix).norm()
    )
    assert cosine > 0.97


def test_nothing_comes_of_nothing() -> None:
    assert not orthogonalised(torch.zeros(4, 3)).any()


@pytest.mark.parametrize("size", [1e-36, 1e-24, 1e-6, 1e20, 1e36])
def test_the_size_of_the_gradient_does_not_matter(size: float) -> None:
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(orthogonalised(size * matrix), orthogonalised(matrix))


def test_a_matrix_whose_gradient_vanishes_comes_to_rest() -> None:
    weight = nn.Parameter(torch.zeros(8, 4))
    optimiser = Muon([weight], lr=1e-2)
    weight.grad = torch.randn(8, 4, generator=torch.Generator().manual_seed(4))
    optimiser.step()
    weight.grad = torch.zeros(8, 4)
    for _ in range(1500):
        before = weight.detach().clone()
        optimiser.step()
    assert weight.isfinite().all()
    assert torch.equal(weight, before)


def test_a_step_of_a_matrix() -> None:
    """A gradient along one pair of directions gives a step of 0.2 sqrt(4) lr along it."""
    weight = nn.Parameter(torch.zeros(4, 2))
    optimiser = Muon([weight], lr=0.5)
    weight.grad = torch.zeros(4, 2)
    weight.grad[3, 1] = 1e-3
    optimiser.step()
    others = weight.detach().clone()
    others[3, 1] = 0
    assert not others.any()
    # Newton-Schulz brings 1 to between 0.7 and 1.2.
    assert 0.7 < -weight[3, 1].item() / (0.5 * STEP_RMS * 2) < 1.2


def test_filters_and_biases_take_the_steps_of_adamw() -> None:
    def parameters() -> list[nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        shapes = ((5,), (4, 1, 3, 3), (6, 4))
        return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]

    mine, theirs = parameters(), parameters()
    muon = Muon(mine, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    adamw = AdamW(theirs, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    generator = torch.Generator().manual_seed(7)
    for _ in range(5):
        for ours, other in zip(mine, theirs, strict=True):
            ours.grad = torch.randn(ours.shape, generator=generator)
            other.grad = ours.grad.clone()
        muon.step()
        adamw.step()
    torch.testing.assert_close(mine[0], theirs[0])
    torch.testing.assert_close(mine[1], theirs[1])
    assert not torch.allclose(mine[2], theirs[2], atol=1e-3)


def test_a_matrix_without_a_gradient_stays() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    Muon([weight], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(weight, torch.ones(3, 3))


def test_a_stored_state_goes_on_as_if_nothing_had_happened() -> None:
    generator = torch.Generator().manual_seed(3)
    gradients = [torch.randn(4, 6, generator=generator) for _ in range(6)]

    def train(weight: nn.Parameter, optimiser: Muon, parts: list[torch.Tensor]) -> None:
        for gradient in parts:
            weight.grad = gradient.clone()
            optimiser.step()

    whole = nn.Parameter(torch.zeros(4, 6))
    train(whole, Muon([whole], lr=0.1), gradients)
    first = nn.Parameter(torch.zeros(4, 6))
    before = Muon([first], lr=0.1)
    train(first, before, gradients[:3])
    second = nn.Parameter(first.detach().clone())
    after = Muon([second], lr=0.1)
    after.load_state_dict(before.state_dict())
    train(second, after, gradients[3:])
    assert torch.equal(second, whole)


def test_the_state_of_another_optimiser_is_refused() -> None:
    weight = nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="not that of Muon"):
        Muon([weight], lr=0.1).load_state_dict(AdamW([weight], lr=0.1).state_dict())
