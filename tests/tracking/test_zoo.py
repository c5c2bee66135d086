"""The models that ship: whole, described by their cards, and they do what the cards say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage.draw import disk
from skimage.filters import gaussian

from medseg_nca.inference.bundle import check_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.tracking.resolve import load_segmentation, zoo_folder, zoo_names

NAMES = zoo_names()


def test_both_models_ship() -> None:
    assert {"hippocampus", "nuclei"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_split_and_codes(name: str) -> None:
    folder = zoo_folder() / name
    spec = check_bundle(folder)
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert card.startswith(f"# zoo:{name}\n")
    assert f"{load_segmentation(f'zoo:{name}').parameters:,} parameters" in card
    assert "Research use only" in card
    split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    parts = [set(split[side]) for side in ("train", "val", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert split["dataset_hash"] == spec.training_data_hash
    for label in spec.labels.labels:
        assert label.code is not None
        assert label.code.value in card


def test_nuclei_finds_bright_discs() -> None:
    truth = np.zeros((256, 256), bool)
    for centre in ((50, 60), (120, 200), (200, 90), (190, 180)):
        truth[disk(centre, 14)] = True
    rng = np.random.default_rng(0)
    image = 20 + 120 * gaussian(truth.astype(float), 1.5) + rng.normal(0, 2, truth.shape)
    volume = Volume(image[None].astype(np.float32), np.eye(4))
    found = Predictor(load_segmentation("zoo:nuclei")).predict(volume).label_map.array[0] == 255
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
