"""``medseg-nca models import``: what a person types, reads and does next."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from safetensors.torch import save_model

from medseg_nca.inference.bundle import file_sha256, read_spec
from tests.cli.runner import complains, files_below, run
from tests.peers.checkpoints import randomised, saved
from tests.peers.textbook import Backbone, Basic, NcaLab

ASKED = ("--channels", "MR", "--labels", "prostate", "--axes", "xyz", "--steps", "2,3",
         "--scales", "2,1", "--fire-rate", "0.5", "--size", "16,16,8", "--spacing", "own",
         "--normalise", "percentile")  # fmt: skip


def m3d(folder: Path) -> list[Path]:
    cells = [Basic(3, 6, 8, kernel) for kernel in (7, 3)]
    return [saved(randomised(cell, n), folder / f"model{n}.pth") for n, cell in enumerate(cells)]


def test_a_checkpoint_becomes_a_model_that_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    files, out = m3d(tmp_path), tmp_path / "out"
    result = run("models", "import", "--from", "m3d-nca", *files, "--out", out, *ASKED)
    assert result.exit_code == 0, result.output
    assert "the largest of a cell's voxels" in result.stdout
    assert "statistics of all cells of the image itself" in result.stdout
    assert (
        "0.5 is the probability not to update: cells update with probability 0.5" in result.stdout
    )
    assert f"Next: medseg-nca predict --model {out}" in result.stdout
    assert files_below(out) == ["card.md", "model.json", "weights.safetensors"]

    spec = read_spec(out)
    assert spec.origin is not None
    assert spec.origin.family == "m3d_nca"
    named = [(file.name, file.sha256) for file in spec.origin.files]
    assert named == [(f.name, sha256(f.read_bytes()).hexdigest()) for f in files]
    assert str(tmp_path) not in (out / "model.json").read_text()
    assert spec.weights_sha256 == file_sha256(out / "weights.safetensors")
    card = (out / "card.md").read_text()
    assert card.startswith("# m3d_nca (imported)")
    assert named[0][1] in card

    image = tmp_path / "case.nii.gz"
    values = np.random.default_rng(0).normal(size=(16, 18, 9)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([1.5, 1.5, 4, 1])), image)
    result = run("predict", image, "--model", out, "--out", tmp_path / "predictions")
    assert result.exit_code == 0, result.output
    maps = list((tmp_path / "predictions").glob("*.nii.gz"))
    assert [nib.load(path).shape for path in maps] == [(16, 18, 9)]
    assert run("models", "describe", out).exit_code == 0


def test_settings_of_the_published_code_answer_most(tmp_path: Path) -> None:
    config = tmp_path / "config.dt"
    tree = [{"input_channels": 1, "output_channels": 2, "cell_fire_rate": 0.3, "n_epoch": 10,
             "inference_steps": 4, "input_size": [[4, 4], [16, 12]]},
            {"inference_steps": 6, "n_epoch": 20}]  # fmt: skip
    config.write_text(json.dumps(tree))
    files = [saved(randomised(Backbone(6, 8), n), tmp_path / f"model{n}.pth") for n in (0, 1)]
    rest = ("--axes", "yx", "--spacing", "1,1", "--normalise", "zscore", "--json")
    out = tmp_path / "out"
    result = run("models", "import", "--from", "med-nca", *files, "--out", out,
                 "--settings", config, *rest)  # fmt: skip
    assert result.exit_code == 0, result.output
    tree = json.loads(result.stdout)
    assert tree["model"] == str(out)
    assert tree["parameters"] == 2 * sum(p.numel() for p in Backbone(6, 8).parameters())
    spec = read_spec(out)
    assert spec.model.family == "nca"
    assert [level.steps for level in spec.model.resolved_levels] == [6, 6]
    assert spec.model.cell.fire_rate == pytest.approx(0.7)
    assert spec.plan.crop_size == (12, 16)
    assert spec.labels.names == ("label_1", "label_2")


def test_octree_settings_run_from_fine_to_coarse(tmp_path: Path) -> None:
    from tests.peers.test_bad_files import octree
    from tests.peers.textbook import Fast

    config, out = tmp_path / "config.json", tmp_path / "out"
    config.write_text(json.dumps({
        "model.input_channels": 1, "model.output_channels": 1, "model.fire_rate": 0.5,
        "model.vitca": False, "model.octree.res_and_steps": [[[16, 16, 4], 2], [[8, 8, 4], 5]],
    }))  # fmt: skip
    file = saved(octree(3, Fast), tmp_path / "model.pth")
    rest = ("--axes", "xyz", "--spacing", "own", "--normalise", "none", "--labels", "gland")
    result = run("models", "import", "--from", "octree_nca", file, "--out", out,
                 "--settings", config, *rest)  # fmt: skip
    assert result.exit_code == 0, result.output
    spec = read_spec(out)
    assert spec.model.family == "nca"
    levels = [(level.scale, level.steps) for level in spec.model.resolved_levels]
    assert levels == [((2, 2, 1), 5), (1, 2)]
    assert spec.plan.crop_size == (16, 16, 4)
    assert spec.labels.names == ("gland",)
    assert spec.model.cell.update.norm == "batch_all"


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    file, out = tmp_path / "m.safetensors", tmp_path / "out"
    save_model(randomised(NcaLab(3, 4, 1, 8, 2)), str(file))
    result = run("models", "import", "--from", "ncalab", file, "--out", out)
    complains(result, "--channels", "--padding", "filter_padding", "--fire-rate", "--settings")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--size", "16,16"), "--size has 2 values"),
        (("--size", "big,1,1"), "write it as 64,64,52"),
        (("--spacing", "-1,1,1"), "write it as 1,1,1 or own"),
        (("--scales", "2,0"), "write it as 4,1"),
        (("--labels", "a,,b"), "write it as NAME"),
        (("--fire-rate", "2"), "0<=x<=1"),
        (("--from", "med-nca"), "it looks like one of M3D-NCA"),
        (("--labels", "a,a"), "label names must differ"),
        (("--labels", "a\nb"), "See to --labels"),
        (("--name", "a\nb"), "name: "),
        (("--steps", "99999999"), "steps must be a number or (min, max), from 1 to 10000"),
        (("--scales", "99999999,1"), "scale"),
        (("--size", "99999998,8,8"), "crop_size"),
    ],
)
def test_mistakes(tmp_path: Path, words: tuple[str, str], said: str) -> None:
    out = tmp_path / "out"
    result = run("models", "import", "--from", "m3d-nca", *m3d(tmp_path), "--out", out,
                 *ASKED, *words)  # fmt: skip
    complains(result, said)
    assert not out.exists()


def test_steps_of_the_published_settings_have_a_limit_too(tmp_path: Path) -> None:
    config, out = tmp_path / "config.dt", tmp_path / "out"
    config.write_text(json.dumps({"inference_steps": 10**7}))
    where = ASKED.index("--steps")
    asked = (*ASKED[:where], *ASKED[where + 2 :], "--settings", config)
    result = run("models", "import", "--from", "m3d-nca", *m3d(tmp_path), "--out", out, *asked)
    complains(result, "steps must be a number or (min, max), from 1 to 10000", "--settings")
    assert not out.exists()
