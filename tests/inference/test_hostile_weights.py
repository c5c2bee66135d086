"""Arguments of networks and tensors that fit no model are refused by their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import SPEC, WEIGHTS, load_bundle
from tests.inference.test_hostile_models import saved, zoo_with


@pytest.mark.parametrize("name", ["cells.0.update.hidden.bias", "no.such.tensor"])
def test_other_tensors_than_the_model_has(tmp_path: Path, name: str) -> None:
    folder = zoo_with(tmp_path, ("weights_sha256", ""))
    tensors = load_file(folder / WEIGHTS)
    if name in tensors:
        del tensors[name]
    else:
        tensors[name] = torch.zeros(3)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ModelError, match=name):
        load_bundle(folder, "cpu")


def test_values_of_another_type(tmp_path: Path) -> None:
    folder = zoo_with(tmp_path, ("weights_sha256", ""))
    tensors = load_file(folder / WEIGHTS)
    save_file({name: tensor.to(torch.int32) for name, tensor in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"need values of type F32, .* holds I32"):
        load_bundle(folder, "cpu")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"num_res_units": 60_000}, "more parameters than weights.safetensors holds"),
        ({"num_res_units": 10**9}, "at most 65536"),
        ({"channels": [4, 60_000]}, "holds"),
        ({"channels": [4] * 300}, "at most 256"),
        ({"channels": {"a": {"b": {"c": {"d": {"e": {"f": {}}}}}}}}, "nested more than 6 deep"),
        ({"channels": "abc"}, "model"),
        ({"strides": [0]}, "strides"),
        ({"strides": [60_000]}, "strides"),
        ({"norm": "nonsense"}, "params"),
        ({"kernel": 3}, "Unknown parameter of unet 'kernel'"),
    ],
)
def test_a_network_of_hostile_parameters(
    tmp_path: Path, params: dict[str, Any], words: str
) -> None:
    given = {"channels": [4, 8], "strides": [2], "num_res_units": 0}
    folder = saved(tmp_path, "unet", params=given)
    tree = json.loads((folder / SPEC).read_text())
    tree["model"]["params"] = {**given, **params}
    (folder / SPEC).write_text(json.dumps(tree))
    with pytest.raises(ModelError, match=words) as caught:
        load_bundle(folder, "cpu")
    assert str(folder / SPEC) in caught.value.message
