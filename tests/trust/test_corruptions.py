"""Artificial faults of images: whatever the image, they give an image and the truth to it."""

from __future__ import annotations

import numpy as np
import pytest

from medseg_nca.errors import ConfigError
from medseg_nca.io.volume import Volume
from medseg_nca.trust.corruptions import CORRUPTIONS, STRENGTHS, corrupted

NAMES = CORRUPTIONS.names
ISOTROPIC = (1.0, 1.0, 1.0)
# Shape of the array, spacing, type.
IMAGES = {
    "2D": ((1, 24, 20), ISOTROPIC, np.float32),
    "3D": ((1, 16, 12, 10), ISOTROPIC, np.float32),
    "several channels": ((3, 14, 12, 10), ISOTROPIC, np.float32),
    "colour": ((3, 18, 15), ISOTROPIC, np.uint8),
    "integers": ((1, 16, 12, 10), ISOTROPIC, np.int16),
    "anisotropic": ((1, 20, 20, 6), (0.5, 0.5, 8.0), np.float32),
    "5 x 5": ((1, 5, 5), ISOTROPIC, np.float32),
    "one slice": ((1, 14, 12, 1), ISOTROPIC, np.float32),
    "thin": ((1, 1, 12, 2), ISOTROPIC, np.float32),
    "one voxel": ((1, 1, 1, 1), ISOTROPIC, np.float32),
}
TURNS = ("orientation",)
SAME_TRUTH = ("bias_field", "blur", "contrast", "ghosting", "low_resolution", "noise")


def labelled(kind: str) -> tuple[Volume, Volume]:
    """A bright ellipsoid with a gradient and a little noise, two labels in it."""
    shape, spacing, dtype = IMAGES[kind]
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[1:]), indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.6
    rng = np.random.default_rng(1)
    image = 100 * inside + 20 * grid[-1] + rng.uniform(20, 40, shape)
    truth = np.where(inside, np.where(grid[0] > 0, 2, 1), 0).astype(np.uint8)
    affine = np.diag([*spacing, 1.0])
    return Volume(image.astype(dtype), affine), Volume(truth[None], affine)


def applied(name: str, kind: str, strength: int, seed: int = 0) -> tuple[Volume, Volume]:
    return corrupted(CORRUPTIONS.get(name), *labelled(kind), strength, seed)


def test_there_are_faults_and_each_says_what_it_does() -> None:
    assert {*TURNS, *SAME_TRUTH, "field_of_view", "other_organ"} <= set(NAMES)
    for _, corruption in CORRUPTIONS.usable():
        assert corruption.about.endswith(".")
    with pytest.raises(ConfigError, match="noize"):
        CORRUPTIONS.get("noize")


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_any_image(name: str, kind: str, strength: int) -> None:
    image, truth = labelled(kind)
    before = image.array.copy(), truth.array.copy()
    found, true = corrupted(CORRUPTIONS.get(name), image, truth, strength, 3)
    assert found.array.dtype == np.float32
    assert true.array.dtype == truth.array.dtype
    assert found.channels == image.channels
    assert found.dims == image.dims
    assert found.shape == true.shape
    assert np.isfinite(found.array).all()
    assert found.array.flags.c_contiguous
    assert np.array_equal(found.affine, image.affine)
    assert set(np.unique(true.array)) <= {0, 1, 2}
    assert np.array_equal(image.array, before[0])
    assert np.array_equal(truth.array, before[1])


@pytest.mark.parametrize("kind", ["2D", "3D"])
@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str, kind: str) -> None:
    for strength in STRENGTHS:
        first, again = applied(name, kind, strength, 7), applied(name, kind, strength, 7)
        assert np.array_equal(first[0].array, again[0].array)
        assert np.array_equal(first[1].array, again[1].array)
    seeds = [applied(name, kind, 1, seed)[0].array for seed in range(8)]
    if name not in ("blur",):  # nothing about it is random
        assert any(not np.array_equal(seeds[0], other) for other in seeds[1:])


@pytest.mark.parametrize("kind", ["2D", "3D", "several channels", "colour", "integers"])
@pytest.mark.parametrize("name", NAMES)
def test_every_fault_changes_the_image(name: str, kind: str) -> None:
    image, _ = labelled(kind)
    for strength in STRENGTHS:
        found, _ = applied(name, kind, strength)
        same = found.shape == image.shape and np.allclose(found.array, image.array, atol=0.1)
        assert not same


@pytest.mark.parametrize("name", ["low_resolution", "orientation"])
def test_a_fault_along_an_axis_takes_one_that_has_voxels(name: str) -> None:
    image, _ = labelled("one slice")
    for seed in range(20):
        assert not np.array_equal(applied(name, "one slice", 1, seed)[0].array, image.array)


@pytest.mark.parametrize("kind", ["2D", "3D", "several channels", "integers", "anisotropic"])
@pytest.mark.parametrize("name", SAME_TRUTH)
def test_strength_3_is_worse_than_strength_1(name: str, kind: str) -> None:
    image, _ = labelled(kind)

    def difference(strength: int, seed: int) -> float:
        found, _ = applied(name, kind, strength, seed)
        return float(np.abs(found.array - image.array).mean())

    weak, strong = (np.mean([difference(s, seed) for seed in range(6)]) for s in (1, 3))
    assert strong > 1.2 * weak


@pytest.mark.parametrize("kind", ["2D", "3D", "anisotropic"])
@pytest.mark.parametrize("name", SAME_TRUTH)
def test_faults_of_intensities_leave_the_truth(name: str, kind: str) -> None:
    for strength in STRENGTHS:
        assert np.array_equal(applied(name, kind, strength)[1].array, labelled(kind)[1].array)


@pytest.mark.parametrize("kind", ["2D", "3D", "several channels", "integers", "one slice"])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_turned_array_keeps_its_values(kind: str, strength: int) -> None:
    image, truth = labelled(kind)
    found, true = applied("orientation", kind, strength)
    for channel, turned in zip(image.array, found.array, strict=True):
        assert np.array_equal(np.sort(channel, axis=None), np.sort(turned, axis=None))
    for label in (1, 2):  # the truth turns with the image
        assert np.array_equal(
            np.sort(image.array[:, truth.array[0] == label], axis=None),
            np.sort(found.array[:, true.array[0] == label], axis=None),
        )


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", IMAGES)
def test_another_organ_has_no_truth(kind: str, strength: int) -> None:
    found, true = applied("other_organ", kind, strength)
    assert not true.array.any()
    assert found.shape == labelled(kind)[0].shape


@pytest.mark.parametrize("dims", [2, 3])
def test_a_small_organ_is_not_just_elsewhere(dims: int) -> None:
    """Bright blobs that lie within a block, of values that the rest of the image has not."""
    array = np.random.default_rng(0).uniform(0, 1, (1, *(30,) * dims)).astype(np.float32)
    truth = np.zeros(array.shape, np.uint8)
    truth[(0, *(slice(12, 16),) * dims)] = 1
    array[truth == 1] = 9
    image, label = Volume(array, np.eye(4)), Volume(truth, np.eye(4))
    for seed in range(5):
        found, _ = corrupted(CORRUPTIONS.get("other_organ"), image, label, 1, seed)
        assert found.array.max() <= 1
        assert found.array.std() > 0.2


@pytest.mark.parametrize(("strength", "kept"), [(1, 17), (2, 14), (3, 10)])
def test_a_field_of_view_is_cut_at_one_end(strength: int, kept: int) -> None:
    """Of 20 voxels, 15, 30 or 50 % are missing; the others are those of the image."""
    shape = (1, 20, 4)  # only the first axis is long enough
    image = Volume(np.arange(80, dtype=np.float32).reshape(shape), np.eye(4))
    truth = Volume((image.array > 30).astype(np.uint8), np.eye(4))
    found, true = corrupted(CORRUPTIONS.get("field_of_view"), image, truth, strength, 0)
    assert found.shape == (kept, 4)
    assert np.array_equal(true.array, found.array > 30)
    assert any(np.array_equal(found.array[0], image.array[0][part])
               for part in (slice(kept), slice(20 - kept, 20)))  # fmt: skip


def test_noise_and_blur_by_their_numbers() -> None:
    """A channel of 0 and 1: its range is 1, so that noise of strength 2 has the spread 0.2."""
    array = np.zeros((1, 200, 200), np.float32)
    array[:, 100:] = 1
    image = Volume(array, np.diag([1.0, 2.0, 1.0, 1.0]))
    truth = Volume(np.zeros(array.shape, np.uint8), image.affine)
    noisy, _ = corrupted(CORRUPTIONS.get("noise"), image, truth, 2, 0)
    assert (noisy.array - array).std() == pytest.approx(0.2, rel=0.02)
    # A point, blurred with 2 mm: 2 voxels along the axis of 1 mm, 1 voxel along that of 2 mm.
    array = np.zeros((1, 41, 41), np.float32)
    array[0, 20, 20] = 1
    blurred, _ = corrupted(
        CORRUPTIONS.get("blur"), Volume(array, image.affine),
        Volume(np.zeros(array.shape, np.uint8), image.affine), 2, 0,
    )  # fmt: skip
    place = np.arange(41) - 20
    for axis, voxels in ((1, 2.0), (0, 1.0)):
        profile = blurred.array[0].sum(axis)
        assert np.sqrt((profile * place**2).sum()) == pytest.approx(voxels, rel=0.03)


def test_thick_slices_hold_means() -> None:
    """Along the only long axis, runs of 2 or 4 voxels hold their mean, and so does the rest."""
    image = Volume(np.array([[[0], [2], [4], [8], [10], [12], [7]]], np.float32), np.eye(4))
    truth = Volume(np.zeros((1, 7, 1), np.uint8), np.eye(4))
    thick = CORRUPTIONS.get("low_resolution")
    values = [corrupted(thick, image, truth, strength, 0)[0].array[0, :, 0] for strength in (1, 2)]
    assert values[0] == pytest.approx([1, 1, 6, 6, 11, 11, 7])
    assert values[1] == pytest.approx([3.5] * 4 + [29 / 3] * 3)


def test_another_strength_is_refused() -> None:
    for strength in (0, 4):
        with pytest.raises(ConfigError, match="one of 1, 2, 3"):
            applied("noise", "2D", strength)
