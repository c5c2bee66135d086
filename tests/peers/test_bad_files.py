"""Files that are no checkpoint of the family, or cannot be computed: named, nothing written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg_nca.errors import CheckpointError, ConfigError, MedsegError, ModelError, OutputError
from medseg_nca.peers.answers import PeerAnswers
from medseg_nca.peers.checkpoint import MAX_BYTES
from medseg_nca.peers.families import FAMILIES
from tests.peers.checkpoints import answers, imported, randomised, saved
from tests.peers.textbook import Backbone, Basic, Fast, NcaLab

Tensors = dict[str, Tensor]


def m3d(folder: Path, **change: Any) -> list[Path]:
    """The two files of an M3D-NCA."""
    return [
        saved(randomised(Basic(3, 6, 8, kernel, **change)), folder / f"model{n}.pth")
        for n, kernel in enumerate((7, 3))
    ]


def refused(
    family: str,
    files: list[Path],
    said: PeerAnswers,
    error: type[MedsegError],
    *words: str,
    **more: Any,
) -> str:
    """The import is refused in these words, and leaves nothing behind."""
    folder = files[0].parent
    before = sorted(folder.iterdir())
    with pytest.raises(error) as found:
        imported(family, files, folder / "out", said, **more)
    text = str(found.value)
    for word in words:
        assert word in text, text
    assert sorted(folder.iterdir()) == before
    return text


SAID = answers(3, scales=((2,), (1,)))


class Planted:
    """What a pickle of a stranger may do when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("form", ["torch", "pickle", "among tensors"])
def test_code_in_a_pickle_is_refused_and_never_run(tmp_path: Path, form: str) -> None:
    trap, file = tmp_path / "trap" / "sprung", tmp_path / "model0.pth"
    trap.parent.mkdir()
    if form == "pickle":
        file.write_bytes(pickle.dumps(Planted(trap), protocol=2))
    else:
        more = {} if form == "torch" else Basic(3, 6, 8, 3).state_dict()
        torch.save({**more, "x": Planted(trap)}, file)
    refused("m3d-nca", [file], SAID, CheckpointError, "model0.pth", "nothing of it was loaded")
    assert not trap.exists()
    if form == "pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert trap.exists()  # so it would have


def changed(change: Callable[[Tensors], Any]) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        files = m3d(folder)
        tensors = torch.load(files[1], weights_only=True)
        result = change(tensors)
        torch.save(tensors if result is None else result, files[1])
        return files

    return make


def cut_off(folder: Path) -> list[Path]:
    files = m3d(folder)
    files[1].write_bytes(files[1].read_bytes()[:-400])
    return files


def words(folder: Path) -> list[Path]:
    files = m3d(folder)
    files[1].write_text("no weights at all")
    return files


def swapped(folder: Path) -> list[Path]:
    return m3d(folder)[::-1]


def renamed(folder: Path) -> list[Path]:
    coarse, fine = m3d(folder)
    return [fine.rename(folder / "fine.pth"), coarse.rename(folder / "coarse.pth")]


def gap(folder: Path) -> list[Path]:
    coarse, fine = m3d(folder)
    return [coarse, fine.rename(folder / "model2.pth")]


def twice(folder: Path) -> list[Path]:
    return [m3d(folder)[0]] * 2


def unlike(folder: Path) -> list[Path]:
    coarse, _ = m3d(folder)
    return [coarse, saved(randomised(Basic(3, 5, 8, 3)), folder / "model1.pth")]


def with_nan(tensors: Tensors) -> None:
    tensors["fc0.weight"][0, 0] = torch.nan


def without_fc1(tensors: Tensors) -> None:
    del tensors["fc1.weight"]


def turned_about(tensors: Tensors) -> None:
    tensors["fc0.weight"] = tensors["fc0.weight"].t().contiguous()


def as_double(tensors: Tensors) -> None:
    tensors["fc0.bias"] = tensors["fc0.bias"].double()


def claims_much(tensors: Tensors) -> None:
    tensors["fc0.bias"] = torch.zeros(1).expand(2**30)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (cut_off, ["model1.pth", "damaged"]),
        (words, ["model1.pth", "damaged, or neither"]),
        (swapped, ["coarse to fine", "model1.pth, model0.pth"]),
        (renamed, ["kernels are 3, 7", "coarse level comes first"]),
        (gap, ["level 1 is missing"]),
        (twice, ["model0.pth", "twice"]),
        (unlike, ["model0.pth and model1.pth differ in channels: 6 and 5"]),
        (changed(with_nan), ["model1.pth", "fc0.weight", "NaN"]),
        (changed(turned_about), ["model1.pth", "fc0.weight", "[12, 8]", "(any, 12)"]),
        (changed(as_double), ["fc0.bias", "float64"]),
        (changed(claims_much), ["fc0.bias", "too large"]),
        (changed(without_fc1), ["model1.pth", "lacks fc1.weight"]),
        (changed(lambda t: t.update(more=torch.ones(1))), ["model1.pth", "also holds more"]),
        (changed(lambda t: t.update(epoch=3)), ["epoch is a int", "named tensors alone"]),
        (changed(lambda t: {"state": {}, "param_groups": []}), ["state of an optimiser"]),
        (changed(lambda t: [t]), ["holds a list and no state dict"]),
        (changed(lambda t: {}), ["holds no tensors"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_files(tmp_path: Path, make: Callable[[Path], list[Path]], said: list[str]) -> None:
    refused("m3d-nca", make(tmp_path), SAID, CheckpointError, *said)


def test_files_that_are_too_large(tmp_path: Path) -> None:
    file = tmp_path / "model0.pth"
    with file.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    refused("m3d-nca", [file], SAID, CheckpointError, "model0.pth", f"longer than {MAX_BYTES:,}")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    refused("m3d-nca", [tmp_path / "a.pth"], SAID, CheckpointError, "a.pth", "cannot be read")
    (tmp_path / "b").mkdir()
    refused("m3d-nca", [tmp_path / "b"], SAID, CheckpointError, "b", "is not a file")


def test_a_damaged_safetensors_file(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes((40).to_bytes(8, "little") + b'{"a": {"dtype": "F32", "shape": [4]}}   ')
    refused("ncalab", [file], SAID, CheckpointError, "model.safetensors", "'a' needs")


def octree(dims: int, make: Any, **change: Any) -> nn.Module:
    module = nn.Module()
    module.backbone_ncas = nn.ModuleList(make(dims, 6, 8, 3, **change) for _ in range(2))
    return randomised(module)


FAMILY_FILES: dict[str, Callable[[], nn.Module]] = {
    "med-nca": lambda: randomised(Backbone(6, 8)),
    "m3d-nca": lambda: randomised(Basic(3, 6, 8, 3)),
    "octree-nca": lambda: octree(3, Fast),
    "ncalab": lambda: randomised(NcaLab(1, 4, 1, 8, 2)),
}


@pytest.mark.parametrize(("family", "wrong"), list(permutations(FAMILY_FILES, 2)))
def test_a_file_of_another_family_is_told(tmp_path: Path, family: str, wrong: str) -> None:
    file = saved(FAMILY_FILES[family](), tmp_path / "model.pth")
    title = FAMILIES.get(family.replace("-", "_")).title
    refused(
        wrong,
        [file],
        SAID,
        CheckpointError,
        "model.pth",
        f"like one of {title}",
        f"--from {family}",
    )


def test_a_network_of_another_kind_and_an_unknown_family(tmp_path: Path) -> None:
    file = saved(nn.Linear(2, 3), tmp_path / "unet.pth")
    refused("med-nca", [file], SAID, CheckpointError, "unet.pth", "weight [3, 2]")
    refused("med-nac", [file], SAID, ConfigError, "did you mean 'med-nca'")


def test_all_that_is_missing_is_asked_for_at_once(tmp_path: Path) -> None:
    text = refused(
        "m3d-nca", m3d(tmp_path), PeerAnswers(), ConfigError, "scale_factor", "input_size"
    )
    asked = {line.strip().split(":")[0] for line in text.splitlines() if line.startswith("  --")}
    assert asked == {
        "--channels", "--labels", "--axes", "--scales", "--steps", "--fire-rate", "--size",
        "--spacing", "--normalise",
    }  # fmt: skip


def test_whether_running_statistics_are_used_is_asked_for(tmp_path: Path) -> None:
    refused("m3d-nca", m3d(tmp_path, running=True), SAID, ConfigError, "--norm", "eval()")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": (1, 2, 3)}, ["--steps has 3 values", "2 levels"]),
        ({"scales": ((1,),)}, ["--scales has 1 values", "2 levels"]),
        ({"scales": ((2, 2), (1,))}, ["--scales", "3"]),
        ({"scales": ((1,), (2,))}, ["not a multiple"]),
        ({"fire_rate": 1.0}, ["--fire-rate is 1.0", "does not update"]),
        ({"axes": "xyy"}, ["--axes is 'xyy'"]),
        ({"dims": 2}, ["--dims is 2", "3 axes"]),
        ({"size": (16, 16)}, ["--size has 2 values; 3"]),
        ({"size": (16, 15, 16)}, ["--size is 16x15x16", "multiple of 2x2x2"]),
        ({"spacing": (1.0,)}, ["--spacing has 1 values; 3"]),
        ({"labels": tuple("abcdef")}, ["--channels names 1 and --labels 6"]),
    ],
)
def test_answers_that_do_not_fit(tmp_path: Path, change: dict[str, Any], said: list[str]) -> None:
    refused("m3d-nca", m3d(tmp_path), PeerAnswers(**change).over(SAID), ConfigError, *said)


@pytest.mark.parametrize("norm", ["layer", "group", "instance"])
def test_norms_that_are_not_computed(tmp_path: Path, norm: str) -> None:
    file = saved(octree(2, Fast), tmp_path / "model.pth")
    said = answers(2, norm=norm, scales=((2,), (1,)))
    refused("octree-nca", [file], said, ModelError, f"--norm is {norm}", "cannot be computed")


def test_norms_that_the_file_contradicts(tmp_path: Path) -> None:
    with_norm = saved(octree(2, Fast), tmp_path / "a.pth")
    without = saved(octree(2, Fast, norm=False), tmp_path / "b.pth")
    scales = ((2,), (1,))
    for file, norm, word in (
        (with_norm, "none", "bn.weight"), (without, "batch", "no bn.weight and bn.bias"),
        (with_norm, "running", "no bn.running_mean"),
    ):  # fmt: skip
        said = answers(2, norm=norm, scales=scales)
        refused("octree-nca", [file], said, ModelError, f"--norm is {norm}", word)


def test_a_second_image_channel_of_med_nca_would_change(tmp_path: Path) -> None:
    files = [saved(randomised(Backbone(6, 8), n), tmp_path / f"model{n}.pth") for n in (0, 1)]
    said = answers(2, channels=("a", "b"))
    refused("med-nca", files, said, ModelError, "first image channel only")


def test_a_level_of_octree_nca_that_is_missing(tmp_path: Path) -> None:
    tensors = octree(2, Fast).state_dict()
    tensors = {name: t for name, t in tensors.items() if not name.startswith("backbone_ncas.0")}
    torch.save(tensors, tmp_path / "model.pth")
    said = answers(2, norm="batch", scales=((2,), (1,)))
    refused("octree-nca", [tmp_path / "model.pth"], said, CheckpointError, "lacks the level",
            "backbone_ncas.0")  # fmt: skip


def test_kinds_of_ncalab_models_that_are_not_computed(tmp_path: Path) -> None:
    plain = randomised(NcaLab(1, 4, 1, 8, 2)).state_dict()
    said = answers(2, padding="circular", filters="sobel")
    lost = {name: t for name, t in plain.items() if "filters" not in name}
    wide = {**plain, "rule.network.0.weight": torch.rand(8, 19, 1, 1)}
    fixed = {**lost, "rule.network.0.weight": torch.rand(8, 24, 1, 1)}
    for tensors, change, word in (
        ({**plain, "head.fc.weight": torch.rand(3, 3)}, {}, "head for a task"),
        ({f"wrapped.{name}": t for name, t in plain.items()}, {}, "cascade"),
        ({"network.0.weight": torch.rand(8, 18)}, {}, "early NCALab"),
        (lost, {"filters": "learned"}, "did not save them"),
        (wide, {}, "temporal encoding"),
        (fixed, {}, "Laplace filter"),
        (plain, {"padding": "replicate"}, "--padding is 'replicate'"),
    ):
        torch.save(tensors, tmp_path / "model.pth")
        with pytest.raises(ModelError, match=word):
            imported("ncalab", [tmp_path / "model.pth"], tmp_path / "out",
                     PeerAnswers(**change).over(said))  # fmt: skip
        assert not (tmp_path / "out").exists()


def test_a_folder_that_is_in_use_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    refused("m3d-nca", m3d(tmp_path), SAID, OutputError, "is in use")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_weights_that_overflow_are_found_before_anything_is_written(tmp_path: Path) -> None:
    cell = Backbone(6, 8)
    for parameter in cell.parameters():
        nn.init.constant_(parameter, 1e20)
    file = saved(cell, tmp_path / "model0.pth")
    said = answers(2, scales=((1,),))
    refused("med-nca", [file], said, MedsegError, "step")


@pytest.mark.parametrize(
    ("family", "tree", "word"),
    [
        ("m3d-nca", "no json", "is no JSON file"),
        ("m3d-nca", [3], "a list of settings"),
        ("m3d-nca", [{"inference_steps": "ten"}], "inference_steps is 'ten'"),
        ("m3d-nca", [{"input_size": [[4, 4]]}], "input_size"),
        ("octree-nca", {"model.vitca": True}, "ViTCA"),
        ("octree-nca", {"model.apply_nonlin": "torch.nn.Softmax(1)"}, "model.apply_nonlin"),
        ("octree-nca", {"model.octree.res_and_steps": [[[9, 9], 4], [[4, 4], 5]]}, "no multiple"),
        ("ncalab", {"use_alive_mask": True}, "use_alive_mask"),
        ("ncalab", {"pad_noise": True}, "start from noise"),
        ("ncalab", {"inference_timesteps": [80, 100]}, "at random"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, family: str, tree: Any, word: str) -> None:
    settings = tmp_path / "config.dt"
    settings.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    file = saved(FAMILY_FILES[family](), tmp_path / "model0.pth")
    refused(family, [file], SAID, ModelError, word, settings=settings)


def test_a_kernel_beyond_what_is_computed_is_named(tmp_path: Path) -> None:
    files = [saved(randomised(Basic(3, 6, 8, 65)), tmp_path / "model0.pth")]
    refused("m3d-nca", files, answers(3, scales=((1,),)), ConfigError, "kernel", "63")
