"""What a client sends is told by its content, and no name of a client becomes a path."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_nca.config.plan import PreprocessPlan
from medseg_nca.errors import ImageError
from medseg_nca.serving.errors import Refused, TooLarge, clean, failure_of
from medseg_nca.serving.intake import Received, check_fit, check_voxels, receive
from medseg_nca.serving.settings import Limits
from tests.serving.running import picture, volume, zipped


def take(folder: Path, content: bytes, **limits: int) -> Received:
    (folder / "upload").write_bytes(content)
    return receive(folder / "upload", folder, Limits(**limits))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (volume(), "file_00001.nii.gz"),
        (volume(plain=True), "file_00001.nii"),
        (picture(), "file_00001.png"),
        (b"NRRD0004\n", "file_00001.nrrd"),
        (b"ObjectType = Image\n", "file_00001.mha"),
    ],
    ids=["nii.gz", "nii", "png", "nrrd", "mha"],
)
def test_the_content_gives_the_name(tmp_path: Path, content: bytes, name: str) -> None:
    received = take(tmp_path, content)
    assert received.kind == "image"
    assert [path.name for path in received.files] == [name]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello", "no known format"),
        (b"%PDF-1.7", "PDF"),
        (gzip.compress(b"hello"), "packed by gzip"),
        (zipped({}), "no file"),
        (zipped({"notes.txt": b"hello"}), "no known format"),
        (zipped({"a.png": picture(), "notes.txt": b"hello"}), "beside an image"),
        (zipped({"a.png": picture()})[:60], "no known format|zip archive|damaged"),
    ],
    ids=["empty", "junk", "pdf", "gzip", "empty zip", "zip of junk", "mixed", "half a zip"],
)
def test_what_is_no_image_is_refused_with_what_it_is(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        take(tmp_path, content)


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil.png", "a/../../b.png", "C:\\x.png"])
def test_a_member_whose_name_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(ImageError, match="leads out"):
        take(inside, zipped({name: picture()}))
    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        member = zipfile.ZipInfo("link.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(member, "/etc/passwd")
    with pytest.raises(ImageError, match="link"):
        take(tmp_path, stream.getvalue())


def test_a_bomb_is_refused_by_what_it_says_and_by_what_comes_out(tmp_path: Path) -> None:
    bomb = zipped({"a.nii": bytes(10**7)})
    assert len(bomb) < 20_000
    with pytest.raises(TooLarge, match="1,000,000 bytes"):
        take(tmp_path, bomb, inflated_bytes=10**6)
    # The same with a central directory that says 100 bytes.
    lie = bomb.replace((10**7).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    with pytest.raises(ImageError):
        take(tmp_path, lie, inflated_bytes=10**6)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * 10**6


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="3 members"):
        take(tmp_path, zipped({f"{n}.png": picture() for n in range(3)}), members=2)
    many = zipped({f"{n}": b"" for n in range(100)})
    with pytest.raises(TooLarge, match="list of members"):
        take(tmp_path, many, members=3)


def test_what_systems_add_to_archives_is_passed_over(tmp_path: Path) -> None:
    content = zipped({"d/a.png": picture(), "__MACOSX/d/._a.png": b"x", "d/.DS_Store": b"x"})
    assert len(take(tmp_path, content).files) == 1


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    digests = []
    for number, content in enumerate((picture(), zipped({"b.png": picture()}), picture(seed=2))):
        (tmp_path / str(number)).mkdir()
        digests.append(take(tmp_path / str(number), content).digest)
    assert digests[0] == digests[1] != digests[2]


def test_no_path_of_this_machine_is_told() -> None:
    folder = Path("/srv/state/jobs/abc/input")
    text = f"{folder}/file_00001.nii: is empty, see /var/lib/x y/z.txt and and/or 3/4 mm."
    assert clean(text, folder) == "file_00001.nii: is empty, see x y/z.txt and and/or 3/4 mm."
    ours = failure_of(Refused(401, "Log in first.", hint="POST /auth/token, or --users."))
    assert (ours.status, ours.hint) == (401, "POST /auth/token, or --users.")
    fault = failure_of(ValueError("/home/ann/secret"))
    assert (fault.status, "secret" in fault.detail) == (500, False)


def test_voxels_count_on_the_grid_of_the_model_too() -> None:
    plan = PreprocessPlan(dims=3, channels=("MR",), spacing=(1.0, 1.0, 2.0), crop_size=(8, 8, 8))
    affine = np.diag([2.0, 2.0, 4.0, 1.0])  # 8 voxels of the model in each of the image
    check_voxels((10, 10, 10), affine, plan, 8000)
    check_voxels((10, 10, 10), None, plan, 1000)
    with pytest.raises(TooLarge, match="about 8,000 at the spacing of the model"):
        check_voxels((10, 10, 10), affine, plan, 7999)
    with pytest.raises(TooLarge, match="10 x 10 x 10 = 1,000 voxels"):
        check_voxels((10, 10, 10), np.eye(4), plan, 999)


@pytest.mark.parametrize("files", [1, 2])
def test_the_pages_of_a_stack_count(tmp_path: Path, files: int) -> None:
    """Each is small enough; as a TIFF with slices they are one image."""
    stream = io.BytesIO()
    pages = [Image.new("L", (50, 40)) for _ in range(8)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    members = {f"{number}.tif": stream.getvalue() for number in range(files)}
    channels = tuple("ab"[:files])
    plan = PreprocessPlan(dims=3, channels=channels, spacing=(1.0, 1.0, 1.0), crop_size=(8, 8, 8))
    received = take(tmp_path, zipped(members))
    check_fit(received, plan, 50 * 40 * 8)
    with pytest.raises(TooLarge, match="50 x 40 x 8"):
        check_fit(received, plan, 50 * 40 * 8 - 1)
