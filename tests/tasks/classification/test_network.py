"""The automaton and its readouts."""

from __future__ import annotations

import math

import pytest
import torch

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.tasks.classification.network import ClassAnswer, ClassifyingNca, answer_loss

READOUTS = ("votes", "pooled", "attention")


def network(readout: str = "votes", dims: int = 2, **values: object) -> ClassifyingNca:
    """One of three classes whose update rule does something."""
    torch.manual_seed(0)
    threshold = values.pop("threshold", None)
    tree = {
        "name": "n", "dims": dims, "in_channels": 1, "head": "linear",
        "cell": {"channels": 8, "update": {"hidden": 16}}, "levels": [{"steps": [2, 5]}], **values,
    }  # fmt: skip
    model = ClassifyingNca(NcaModelSettings.model_validate(tree), 3, readout, threshold)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.cell.update.output.weight, std=0.1)
    return model


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("dims", [2, 3])
def test_probabilities_and_a_gradient_in_every_weight(readout: str, dims: int) -> None:
    model = network(readout, dims)
    image = torch.rand(2, 1, *(5, 7, 4)[:dims])
    answers = model.training_answers(image, seed=1, looks=2)
    loss = sum(answer_loss(a, torch.tensor([0, 2]), "cross_entropy", 0.0, None) for a in answers)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    chances = answers[-1].probabilities()
    assert chances.shape == (2, 3)
    assert torch.allclose(chances.sum(1), torch.ones(2))


@pytest.mark.parametrize("readout", READOUTS)
def test_an_answer_does_not_depend_on_the_others(readout: str) -> None:
    model, images = network(readout), torch.rand(3, 1, 6, 6)
    with torch.no_grad():
        together = model(images, seed=4).probabilities()
        alone = torch.cat([model(image[None], seed=4).probabilities() for image in images])
    assert torch.allclose(together, alone, atol=1e-6)


def test_the_image_never_changes_and_cells_may_be_coarse() -> None:
    model = network(levels=[{"scale": 2, "steps": 3}])
    image = torch.rand(1, 1, 6, 5)
    with torch.no_grad():
        state = model(image).state
    assert state.shape == (1, 8, 3, 3)
    assert torch.allclose(state[0, 0, 0, 0], image[0, 0, :2, :2].mean())


def test_votes_are_the_mean_of_the_cells_probabilities() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(4), 0.0]]])  # (1/4, 3/4), (4/5, 1/5)
    answer = ClassAnswer(logits, torch.tensor([[0.5, 0.5]]), torch.zeros(1))
    expected = torch.tensor([[(0.25 + 0.8) / 2, (0.75 + 0.2) / 2]])
    assert torch.allclose(answer.probabilities(), expected)


def test_the_losses_of_two_cells() -> None:
    """Cells give the true class 1/4 and 4/5, so together 0.525."""
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(4), 0.0]]])
    answer = ClassAnswer(logits, torch.tensor([[0.5, 0.5]]), torch.zeros(1))
    target = torch.tensor([0])
    cells = -(math.log(0.25) + math.log(0.8)) / 2
    both = -math.log(0.525)
    for agree, expected in ((1.0, cells), (0.0, both), (0.25, 0.25 * cells + 0.75 * both)):
        found = answer_loss(answer, target, "cross_entropy", 0.0, None, agree)
        assert float(found) == pytest.approx(expected, rel=1e-5)
    squares = (1 + math.log(3) ** 2 + (math.log(4) - 1) ** 2) / 4
    assert float(answer_loss(answer, target, "l2", 0.0, None)) == pytest.approx(squares)


def test_weights_of_classes_weigh_images() -> None:
    logits = torch.tensor([[[0.0, 0.0]], [[math.log(3), 0.0]]])
    answer = ClassAnswer(logits, torch.ones(2, 1), torch.zeros(1))
    found = answer_loss(
        answer, torch.tensor([0, 1]), "cross_entropy", 0.0, torch.tensor([1.0, 3.0])
    )
    assert float(found) == pytest.approx((math.log(2) + 3 * math.log(4)) / 4)


@pytest.mark.parametrize("readout", READOUTS)
def test_only_cells_inside_live_and_vote(readout: str) -> None:
    model = network(readout, threshold=(0.5,))
    image = torch.zeros(1, 1, 6, 6)
    image[0, 0, 2:4, 2:4] = 1
    with torch.no_grad():
        answer = model(image)
        other = model.read(answer.state + 5 * (image < 0.5) * (torch.arange(8) > 0)[:, None, None])
    outside = answer.state[0, 1:, image[0, 0] < 0.5]
    assert torch.equal(outside, torch.zeros_like(outside))
    assert answer.state[0, 1:, 2:4, 2:4].abs().sum() > 0
    assert torch.allclose(answer.probabilities(), other.probabilities())


def test_where_no_cell_is_inside_all_are() -> None:
    model, dark = network(threshold=(0.5,)), torch.zeros(1, 1, 4, 4)
    with torch.no_grad():
        found = model(dark).probabilities()
    assert torch.isfinite(found).all()
    assert torch.allclose(found, network()(dark).probabilities())


def test_training_draws_every_number_of_steps_of_the_range() -> None:
    model, image = network(engine="reference"), torch.rand(1, 1, 3, 3)
    seen: list[int] = []  # the reference engine perceives once a step
    model.cell.perception.register_forward_pre_hook(lambda *_: seen.append(1))

    def steps(seed: int, looks: int) -> int:
        seen.clear()
        with torch.no_grad():
            assert len(model.training_answers(image, seed, looks)) <= looks
        return len(seen)

    drawn = [steps(seed, looks=1) for seed in range(40)]
    assert set(drawn) == {2, 3, 4, 5}
    assert drawn == [steps(seed, looks=3) for seed in range(40)], "looks take no more steps"
    seen.clear()
    model(image)
    assert len(seen) == model.usual_steps == 4


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"levels": [{"scale": 2}, {"scale": 1}]}, "has 2 levels; classification runs on one"),
        ({"cell": {"channels": 3}, "head": "channels"}, "channels is 3: the image takes 1, and 3"),
    ],
)
def test_models_that_do_not_fit_are_refused(values: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        network(**values)
