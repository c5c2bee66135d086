"""Models from anywhere: refused by a word on the field, before anything of their size is built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import (
    SPEC,
    WEIGHTS,
    ModelSpec,
    check_bundle,
    load_bundle,
    save_bundle,
    save_ensemble,
)
from medseg_nca.inference.ensemble import join_specs
from medseg_nca.inference.weights import MAX_HEADER_BYTES, TensorInfo, read_header
from medseg_nca.models import create_model
from medseg_nca.tracking.resolve import zoo_folder
from tests.trust.sections import section_of

ZOO = zoo_folder() / "hippocampus"
INTENSITIES = {
    "low": [-4.0, 0.0], "median": [-1.0, 1.0], "high": [0.0, 4.0], "place": [0.0, 1.0],
    "border": [0.0, 1.0], "floor": [0.0, 1.0], "rough": [0.0, 1.0], "grades": 2, "whole": False,
}  # fmt: skip
LABELS = LabelTable(labels=(Label(name="a", values=(3,)), Label(name="b", values=(7,))))
HEADER = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def zoo_with(folder: Path, *changes: tuple[str, Any], weights: bytes | None = None) -> Path:
    """The shipped model without its estimates, with fields changed; "a.0.b" is a place."""
    tree = json.loads((ZOO / SPEC).read_text())
    tree.pop("trust", None)
    for place, value in changes:
        *path, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
        inner = tree
        for part in path:
            inner = inner[part]
        inner[last] = value
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPEC).write_text(json.dumps(tree))
    content = (ZOO / WEIGHTS).read_bytes() if weights is None else weights
    (folder / WEIGHTS).write_bytes(content)
    return folder


def saved(folder: Path, name: str, **settings: Any) -> Path:
    """An untrained model of some kind."""
    torch.manual_seed(0)
    model = create_model(name, dims=3, in_channels=1, out_channels=3, **settings)
    plan = PreprocessPlan(dims=3, channels=("MR",), crop_size=(8, 8, 8))
    settings_of: Any = model.settings
    save_bundle(folder, model, ModelSpec(name="m", model=settings_of, labels=LABELS, plan=plan))
    return folder


def ensemble_of(folder: Path, member: Path) -> Path:
    """Twice the same model, with other weights."""
    one = load_bundle(member, "cpu")
    two = load_bundle(member, "cpu")
    with torch.no_grad():
        next(two.model.parameters()).add_(0.1)
    save_bundle(folder, two.model, two.spec)
    spec = join_specs({"one": one, "two": load_bundle(folder, "cpu")})
    save_ensemble(folder, [one.model, two.model], spec)
    return folder


def file_of(header: Any, data: bytes = bytes(24), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def test_no_value_in_any_field_does_harm(tmp_path: Path) -> None:
    """Each of the files runs or is refused, in half a gigabyte and five seconds, in one process."""
    automaton = zoo_with(
        tmp_path / "automaton",
        ("plan.crop_size", [8, 8, 8]),
        ("plan.spacing", [1.0, 1.0, 1.0]),
        *((f"model.levels.{level}.steps", [1, 2]) for level in range(3)),
        ("plan.statistics", [{"mean": 0.0, "sd": 1.0, "low": -3.0, "high": 3.0}]),
        ("plan.training.intensities", [INTENSITIES]),
        (
            "trust",
            json.loads(
                section_of(
                    [0.3, 0.9], [0.2, 0.9], labels=("Anterior", "Posterior")
                ).model_dump_json()
            ),
        ),
    )
    params = {
        "channels": [4, 8], "strides": [2], "kernel_size": 3, "num_res_units": 0, "act": "PRELU",
        "norm": ["INSTANCE", {"affine": True}], "dropout": 0.0, "bias": True,
    }  # fmt: skip
    network = saved(tmp_path / "network", "unet", params=params)
    ensemble = ensemble_of(tmp_path / "ensemble", automaton)
    program = Path(__file__).with_name("hostile.py")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), *map(str, (automaton, network, ensemble))],
        env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["faults"] == []
    assert told["tried"] > 4000
    assert "automaton: model.levels.0.steps = 0" in told["refused"]
    for place, message in told["refused"].items():
        field = place.partition(" = ")[0].partition(": ")[2].split(".")[0]
        assert "not valid JSON" in message or field in message, f"{place}: {message}"
        assert SPEC in message or WEIGHTS in message, f"{place}: {message}"


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("model.cell.channels", 10**9, "model.cell.channels: .* 1024"),
        ("model.cell.channels", 512, r"model\.cell\.channels says 512, .* holds 16 .*64x32"),
        ("model.cell.update.hidden", 65, r"model\.cell\.update\.hidden says 65, .* holds 64"),
        ("model.cell.update.norm", "none", r"model\.cell\.update\.norm does not fit"),
        ("model.cell.update.norm", "batch", r"focus runs parts of the grid, and norm batch"),
        ("model.cell.update.update_image", True, "update_image does not fit"),
        ("model.cell.perception.kernel", 5, r"perception\.kernel says 5, .* holds 3"),
        ("model.cell.perception.kernel", 10**9 + 1, r"perception\.kernel: .* 63"),
        ("model.cell.perception.filters", 2, r"perception\.filters says 2, .* holds 1"),
        ("model.cell.perception.kind", "conv", r"perception\.kind says conv"),
        ("model.cell.perception.kind", "sobel", r"perception\.kind says sobel"),
        ("model.cell.perception.bias", False, r"perception\.bias does not fit"),
        ("model.levels.1.kernel", 7, r"model\.levels\.1\.kernel says 7, .* holds 3"),
        ("model.levels", [{"scale": 2, "steps": 3}], r"model\.levels says 1 .* holds 3"),
        ("model.levels", [{}] * 17, "at most 16 levels"),
        ("model.levels.0.steps", 0, r"model\.levels\.0: steps must be .* from 1 to 10000"),
        ("model.levels.0.steps", [0, 1], r"model\.levels\.0: steps must be"),
        ("model.levels.0.steps", 10**9, r"model\.levels\.0: steps must be"),
        ("model.levels.0.scale", 4096, "covers more than 16,777,216 voxels"),
        ("model.levels.0.scale", [4, 4], "2 values for a model of 3 axes"),
        ("model.levels.1.patch", [4, 4], "2 values for a model of 3 axes"),
        ("model.share_weights", True, r"model\.share_weights says 1 .* holds 3"),
        ("model.head", "mlp", r"model\.head or model\.out_channels does not fit"),
        ("model.global_context", False, r"model\.global_context does not fit"),
        ("model.engine", 9, r"model\.engine: .* valid string"),
        ("model.checkpoint", 0, r"model\.checkpoint: .* greater than or equal to 1"),
        ("model.name", "../x", r"model\.name: String should match"),
        ("model.focus.margin", 10**9, r"model\.focus\.margin"),
        ("model.dims", 2, "model.dims is 2, but plan.dims is 3"),
        ("model.in_channels", 2, "model.in_channels is 2, but the plan has 1"),
        ("model.out_channels", 5, "model.out_channels is 5, but the labels need 3"),
        ("labels.labels.1.values", [1], "written as numbers that differ"),
        ("labels.labels.1.values", [2**31], r"labels\.labels\.1\.values\.0: .* 2147483647"),
        ("labels.labels.1", {"name": "b", "values": [1], "write": 2}, "belongs to two labels"),
        ("labels.labels.1.write", 1, "written as numbers that differ"),
        ("labels.labels.0.name", "a\x1b[31m", "no control characters"),
        ("plan.crop_size", [513, 512, 512], r"crop_size .* more than 134,217,728 voxels"),
        ("plan.crop_size", [0, 8, 8], "crop_size must be 3 numbers above 0"),
        ("plan.spacing", [1.0, 1.0, 0.0], "spacing must be 3 numbers of mm"),
        ("plan.spacing", [1.0, 1.0, 1e300], "spacing must be 3 numbers of mm"),
        ("plan.scales", [[4096, 4096, 4096]], "scales .* more than 16,777,216 voxels"),
        ("plan.percentiles", [50, 101], "percentiles must be"),
        ("plan.training.intensities", [INTENSITIES] * 2, "intensities must be of 1 channels"),
        ("plan.training.intensities", [], r"plan\.training\.intensities: .* at least 1"),
        *(
            ("plan.training.intensities", [{**INTENSITIES, name: value}], rf"0\.{name}{words}")
            for name, value, words in (
                ("low", [1.0, 0.0], ": .* the least and the largest"),
                ("median", [0.0, 1e31], r"\.1: .* less than or equal"),
                ("place", [0.0, 2.0], r"\.1: .* less than or equal to 1"),
                ("grades", 10**9, ": .* less than or equal to 256"),
            )
        ),
        ("plan.normalise", "ct", r"plan\.statistics: .* 1 channels, and there are 0"),
        ("prediction.flips", [0, 3], r"prediction\.flips\.1"),
        ("prediction.uncertainty", 10**9, r"prediction\.uncertainty: .* 1000"),
        ("prediction.largest", ["Anteriorr"], r"prediction\.largest: Unknown label 'Anteriorr'"),
        ("prediction.largest", 1, r"prediction\.largest"),
        ("prediction.memory_budget_gb", -1, r"prediction\.memory_budget_gb: .* greater than 0"),
        ("seed", True, r"seed: .* valid integer"),
        ("weights_sha256", "0" * 64, "has sha256 53c75994678c, but model.json says 000000000000"),
    ],
)
def test_the_field_is_named(tmp_path: Path, place: str, value: Any, words: str) -> None:
    folder = zoo_with(tmp_path, (place, value))
    with pytest.raises(ModelError, match=words) as caught:
        load_bundle(folder, "cpu")
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


def test_flips_of_an_axis_that_a_flat_model_lacks(tmp_path: Path) -> None:
    model = create_model("pyramid_nca", dims=2, in_channels=1, out_channels=3, levels=[{}])
    plan = PreprocessPlan(dims=2, channels=("MR",), crop_size=(8, 8))
    settings: Any = model.settings
    spec = ModelSpec(name="m", model=settings, labels=LABELS, plan=plan)
    flips = spec.prediction.model_copy(update={"flips": (2,)})
    save_bundle(tmp_path, model, spec.model_copy(update={"prediction": flips}))
    with pytest.raises(ModelError, match=r"prediction\.flips: 2 is no axis; they are 0 to 1"):
        check_bundle(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{" + b" " * 2**20 + b"}", "is longer than 1,048,576 bytes"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"format_version": 1, "format_version": 1}', "'format_version' is given twice"),
        (b'{"format_version": NaN}', "NaN is no number"),
        (b'{"format_version": true}', "format_version is 'True'"),
        (b'{"format_version": 1' + b"0" * 5000 + b"}", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"\0" * 100, "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_a_text_that_is_no_settings(tmp_path: Path, content: bytes, words: str) -> None:
    folder = zoo_with(tmp_path)
    (folder / SPEC).write_bytes(content)
    with pytest.raises(ModelError, match=words):
        load_bundle(folder, "cpu")


@pytest.mark.parametrize("name", [SPEC, WEIGHTS])
def test_a_file_without_an_end_is_not_read(tmp_path: Path, name: str) -> None:
    folder = zoo_with(tmp_path)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ModelError, match=f"{name}: is not a file"):
        load_bundle(folder, "cpu")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match=f"{name}: is not a file"):
        load_bundle(folder, "cpu")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "its header would have 0 bytes"),
        (b"{}", "the file holds more"),
        (b"[]", "not a mapping"),
        (b'{"a": 1, "a": 2}', "given twice"),
        (b"[" * 10_000, "nested too deeply"),
        ({**HEADER, "__metadata__": {"a": 3}}, "__metadata__ must hold words"),
        ({"w": 3}, "'w' needs dtype, shape and data_offsets"),
        ({"w": {**HEADER["w"], "dtype": "F33"}}, "'w' has an unknown dtype"),
        ({"w": {**HEADER["w"], "dtype": []}}, "'w' has an unknown dtype"),
        ({"w": {**HEADER["w"], "shape": [-2, -3]}}, "'w' has no shape"),
        ({"w": {**HEADER["w"], "shape": [2, True]}}, "'w' has no shape"),
        ({"w": {**HEADER["w"], "shape": [10**18] * 9}}, "'w' has no shape"),
        ({"w": {**HEADER["w"], "shape": [10**9, 10**9]}}, "the bytes that its shape needs"),
        ({"w": {**HEADER["w"], "data_offsets": [24, 0]}}, "the bytes that its shape needs"),
        ({"w": {**HEADER["w"], "data_offsets": [0, 24, 24]}}, "the bytes that its shape needs"),
        ({"w": {**HEADER["w"], "data_offsets": [4, 28]}}, "overlap or leave a gap at byte 0"),
        ({**HEADER, "v": HEADER["w"]}, "overlap or leave a gap"),
        ({"w": {"dtype": "F32", "shape": [7], "data_offsets": [0, 28]}}, "is truncated"),
    ],
)
def test_a_header_that_lies(tmp_path: Path, header: Any, words: str) -> None:
    path = tmp_path / WEIGHTS
    path.write_bytes(file_of(header))
    with pytest.raises(ModelError, match=words) as caught:
        read_header(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**40, 2**63, 2**64 - 1])
def test_the_length_of_a_header_is_not_believed(tmp_path: Path, length: int) -> None:
    path = tmp_path / WEIGHTS
    path.write_bytes(file_of(HEADER, length=length))
    with pytest.raises(ModelError, match=f"its header would have {length:,} bytes"):
        read_header(path)


def test_a_header_may_be_as_long_as_its_limit(tmp_path: Path) -> None:
    path, text = tmp_path / WEIGHTS, json.dumps(HEADER).encode()
    path.write_bytes(file_of(text.ljust(MAX_HEADER_BYTES)))
    assert read_header(path) == {"w": TensorInfo("F32", (2, 3))}
    path.write_bytes(file_of(text.ljust(MAX_HEADER_BYTES + 1)))
    with pytest.raises(ModelError, match="1,048,576 are possible"):
        read_header(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["F32", "BOOL", "dtype", "shape", "data_offsets"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)  # fmt: skip
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I64", "BOOL", "F33"]) | VALUES,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | VALUES,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | VALUES,
    }
)


@given(
    header=st.dictionaries(st.sampled_from(["w", "v", "__metadata__"]), ENTRIES | VALUES) | VALUES,
    data=st.binary(max_size=32),
)
def test_any_header_is_read_or_refused_and_safetensors_agrees(
    tmp_path_factory: pytest.TempPathFactory, header: Any, data: bytes
) -> None:
    _agrees(tmp_path_factory.mktemp("header") / WEIGHTS, file_of(header, data))


@given(
    cut=st.integers(0, 200), place=st.integers(0, 160), byte=st.integers(0, 255), grow=st.binary()
)
def test_a_damaged_file_is_read_or_refused_and_safetensors_agrees(
    tmp_path_factory: pytest.TempPathFactory, cut: int, place: int, byte: int, grow: bytes
) -> None:
    content = bytearray(
        file_of({**HEADER, "v": {**HEADER["w"], "data_offsets": [24, 48]}}, bytes(48))
    )
    content[min(place, len(content) - 1)] = byte
    damaged = bytes(content[: len(content) - cut] if cut < 20 else content) + grow[:3]
    _agrees(tmp_path_factory.mktemp("header") / WEIGHTS, damaged)


def _agrees(path: Path, content: bytes) -> None:
    """What is let through, safetensors reads the same way."""
    from safetensors import safe_open

    path.write_bytes(content)
    try:
        found = read_header(path)
    except ModelError:
        return
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(found)
        for name, tensor in found.items():
            part = file.get_slice(name)
            assert (part.get_dtype(), tuple(part.get_shape())) == tensor


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pyramid_nca", {"levels": [{"scale": 2}, {"scale": 1}]}),
        ("pyramid_nca", {"levels": [{}], "head": "mlp", "cell": {"perception": {"kind": "sobel"}}}),
        ("backbone_nca", {"cell": {"perception": {"kind": "sobel_laplace"}}}),
        ("med_nca", {}),
        ("m3d_nca", {}),
        ("octree_nca", {"cell": {"perception": {"filters": 3, "bias": False}}}),
        ("cascade_nca", {}),
        ("unet", {"params": {"channels": [4, 8], "strides": [2], "norm": "BATCH"}}),
        ("dynunet", {"params": {"filters": [4, 8, 8, 8]}}),
        ("segresnet", {"params": {"init_filters": 8}}),
    ],
)
def test_every_kind_of_model_passes_as_it_was_saved(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    folder = saved(tmp_path, name, **settings)
    loaded = load_bundle(folder, "cpu")
    assert {p.device.type for p in loaded.model.parameters()} == {"cpu"}
    stored = read_header(folder / WEIGHTS)
    save_bundle(tmp_path / "again", loaded.model, loaded.spec)
    assert read_header(tmp_path / "again" / WEIGHTS) == stored
