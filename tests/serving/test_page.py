"""The page in a real browser against a running server: what a person would do."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medseg_nca.cli.main import cli
from medseg_nca.serving.security.users import UserFile
from tests.io.dicom.build import classic, pixels, write
from tests.serving.browser import CONTRAST, NAMELESS, Visit, browser, chromium, visit
from tests.serving.running import Server, start

pytestmark = [pytest.mark.peer, pytest.mark.slow]
PASSWORD = "correct horse"
ACTIVE = "document.activeElement.id || document.activeElement.tagName"
DONE = "#progress-card[data-state=done]"
# The share of the progress bar and its text, whenever one of them changes.
RECORD = """() => {
  window.seen = [];
  const card = document.getElementById("progress-card");
  new MutationObserver(() => {
    const bar = document.getElementById("progress-bar");
    const text = document.getElementById("progress-text").textContent;
    const now = [bar.hasAttribute("value") ? bar.value : null, text];
    if (JSON.stringify(seen.at(-1)) !== JSON.stringify(now)) seen.push(now);
  }).observe(card, { subtree: true, childList: true, attributes: true, characterData: true });
}"""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    chromium()
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def served(chrome: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = start(tmp_path_factory.mktemp("page"), "--models", "zoo:hippocampus,zoo:nuclei")
    try:
        yield found.ready()
    finally:
        found.stop()


def sample(served: Server, model: str, path: Path) -> Path:
    path.write_bytes(served.get(f"/page/sample/{model}").content)
    return path


def predicted(image: Path, model: str, out: Path) -> Path:
    done = CliRunner().invoke(cli, ["predict", "--model", model, "--out", str(out), str(image)])
    assert done.exit_code == 0, done.output
    return out / image.name


def saved(opened: Visit, kind: str, path: Path) -> Path:
    with opened.page.expect_download() as download:
        opened.page.click(f"#downloads a[data-kind={kind}]")
    download.value.save_as(path)
    return path


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark", "locale": "de-DE"}),
        ("narrow", {"color_scheme": "light", "viewport": {"width": 390, "height": 844}}),
    ],
    ids=["light", "dark", "narrow"],
)
def test_the_first_click_shows_a_segmentation(
    chrome: Any, served: Server, tmp_path: Path, name: str, how: dict[str, Any]
) -> None:
    with visit(chrome, served.url, **how) as opened:
        page = opened.page
        assert page.evaluate("document.documentElement.lang") == ("de" if name == "dark" else "en")
        page.click("#sample")
        page.wait_for_selector(DONE)
        page.wait_for_timeout(300)
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        assert opened.orange("#volume") > 300
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate(NAMELESS) == []
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{wide} pixels too wide"
        assert re.search(r"1[.,]44 m[lL]", page.inner_text("#result-labels"))
        said = page.inner_text("#result-warnings")
        assert ("künstlich" if name == "dark" else "made up") in said
        opened.check(served.url)


def test_a_volume_from_drop_to_download(chrome: Any, served: Server, tmp_path: Path) -> None:
    """Progress moves, the overlay follows its tools, the download is what `predict` writes."""
    small = nib.load(sample(served, "hippocampus", tmp_path / "small.nii.gz"))
    large = np.kron(np.asanyarray(small.dataobj), np.ones((2, 2, 2), np.uint8))
    image = tmp_path / "Canary^Name.nii.gz"
    nib.save(nib.Nifti1Image(large, small.affine), image)
    with visit(chrome, served.url, viewport={"width": 1000, "height": 700}) as opened:
        page = opened.page
        page.evaluate(RECORD)
        page.set_input_files("#files", image)
        page.wait_for_selector(DONE)
        seen = page.evaluate("seen")
        shares = [share for share, text in seen if "Level" in text and share]
        assert len(set(shares)) >= 2, seen
        assert shares == sorted(shares)
        assert any(re.fullmatch(r"Level \d of 3, step \d+ of \d+", text) for _, text in seen), seen

        page.check("input[name=view][value=axial]")
        page.fill("#opacity", "100")
        full = opened.orange("#volume")
        page.fill("#opacity", "0")
        assert full > 1000
        assert opened.orange("#volume") < full / 50
        page.fill("#opacity", "100")
        assert opened.orange("#volume") == pytest.approx(full, rel=0.02)
        page.uncheck("#show-label-0")
        assert opened.orange("#volume") < full / 50
        page.check("#show-label-0")
        page.check("#outline")
        assert 0 < opened.orange("#volume") < full / 2
        page.uncheck("#outline")

        before = int(page.input_value("#slice"))
        page.focus("#volume")
        page.keyboard.press("PageUp")
        assert abs(int(page.input_value("#slice")) - before) == 1
        page.fill("#slice", "1")
        assert page.inner_text("#slice-value") == f"1 / {large.shape[2]}"
        page.click("#centre")
        assert int(page.input_value("#slice")) == before
        page.check("input[name=view][value=render]")
        assert opened.orange("#volume") > 1000

        found = nib.load(saved(opened, "label_map", tmp_path / "found.nii.gz"))
        opened.check(served.url)
    wanted = nib.load(predicted(image, "zoo:hippocampus", tmp_path / "wanted"))
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), np.asanyarray(wanted.dataobj))
    np.testing.assert_array_equal(found.affine, wanted.affine)
    assert np.unique(np.asanyarray(found.dataobj)).tolist() == [0, 1, 2]
    traces = [path for path in served.state.rglob("*") if path.is_file()]
    assert not [path for path in (*traces, served.log) if b"Canary" in path.read_bytes()]


def test_a_picture_is_shown_and_downloaded(chrome: Any, served: Server, tmp_path: Path) -> None:
    image = sample(served, "nuclei", tmp_path / "image.png")
    with visit(chrome, served.url, color_scheme="dark") as opened:
        page = opened.page
        page.select_option("#model", "nuclei")
        page.set_input_files("#files", image)
        page.wait_for_selector(DONE)
        page.screenshot(path=tmp_path / "picture.png", full_page=True)
        assert page.is_hidden("#views")
        full = opened.orange("#flat")
        page.fill("#opacity", "0")
        assert full > 5000
        assert opened.orange("#flat") == 0
        found = np.asarray(Image.open(saved(opened, "label_map", tmp_path / "found.png")))
        assert page.evaluate(CONTRAST) == []
        opened.check(served.url)
    wanted = predicted(image, "zoo:nuclei", tmp_path / "wanted")
    np.testing.assert_array_equal(found, np.asarray(Image.open(wanted)))
    assert found.any()


def test_another_job_may_be_opened_while_one_is_computed(
    chrome: Any, served: Server, tmp_path: Path
) -> None:
    """Whichever comes last is shown, labels and image of the same job."""
    content = sample(served, "nuclei", tmp_path / "image.png").read_bytes()
    other = served.wait(served.send(content, model="nuclei", image="true").json())
    small = nib.load(sample(served, "hippocampus", tmp_path / "small.nii.gz"))
    large = np.kron(np.asanyarray(small.dataobj), np.ones((2, 2, 2), np.uint8))
    nib.save(nib.Nifti1Image(large, small.affine), tmp_path / "large.nii.gz")
    with visit(chrome, served.url, viewport={"width": 1000, "height": 700}) as opened:
        page = opened.page
        page.set_input_files("#files", tmp_path / "large.nii.gz")
        page.click(f"#history li[data-id='{other['id']}'] button:has-text('Open')")
        page.wait_for_selector(DONE)
        page.wait_for_timeout(1500)
        last = page.inner_text("#result-model").split()[0]
        place = {"hippocampus": "#volume", "nuclei": "#flat"}[last]
        assert page.is_visible("#volume") == (place == "#volume")
        assert opened.orange(place) > 300
        opened.check(served.url)


def test_uncertainty_is_laid_over_the_volume(chrome: Any, served: Server) -> None:
    with visit(chrome, served.url, viewport={"width": 1000, "height": 700}) as opened:
        page = opened.page
        page.click("summary")
        page.check("#uncertainty")
        page.click("#sample")
        page.wait_for_selector(DONE)
        page.check("input[name=view][value=axial]")
        page.fill("#opacity", "0")
        assert opened.orange("#volume") < 20
        page.check("#uncertain")
        assert opened.orange("#volume") > 100
        page.uncheck("#uncertain")
        assert opened.orange("#volume") < 20
        assert page.locator("#downloads a[data-kind=uncertainty]").count() == 1
        opened.check(served.url)


def test_dicom_files_are_packed_by_the_page(chrome: Any, served: Server, tmp_path: Path) -> None:
    files = write(tmp_path / "in", classic(pixels((24, 28, 26)), modality="MR"))
    with visit(chrome, served.url) as opened:
        opened.page.set_input_files("#files", files)
        opened.page.wait_for_selector(DONE)
        seg = saved(opened, "dicom_seg", tmp_path / "seg.dcm").read_bytes()
        shown = saved(opened, "image", tmp_path / "image.nii.gz").read_bytes()
        opened.check(served.url)
    assert seg[128:132] == b"DICM"
    assert nib.Nifti1Image.from_bytes(gzip.decompress(shown)).shape == (26, 28, 24)


def test_a_folder_is_one_image(chrome: Any, served: Server, tmp_path: Path) -> None:
    write(tmp_path / "in", classic(pixels((24, 28, 26)), modality="MR"))
    (tmp_path / "in" / ".DS_Store").write_bytes(b"of the system")
    with visit(chrome, served.url) as opened:
        opened.page.set_input_files("#folder", tmp_path / "in")
        opened.page.wait_for_selector(DONE)
        assert opened.page.inner_text("#progress-name") == "in (24)"
        opened.check(served.url)


def test_past_jobs_are_opened_and_deleted(chrome: Any, served: Server, tmp_path: Path) -> None:
    content = sample(served, "nuclei", tmp_path / "image.png").read_bytes()
    ours = served.wait(served.send(content, model="nuclei", image="true").json())
    theirs = served.wait(served.send(content, model="nuclei", format="nifti").json())
    with visit(chrome, served.url) as opened:
        page = opened.page
        page.click(f"#history li[data-id='{ours['id']}'] button:has-text('Open')")
        page.wait_for_selector("#result:not([hidden])")
        assert opened.orange("#flat") > 5000
        page.click(f"#history li[data-id='{theirs['id']}'] button:has-text('Open')")
        page.wait_for_selector("#result-warnings:has-text('Without the image')")
        gone = page.locator(f"#history li[data-id='{ours['id']}']")
        gone.get_by_role("button", name=re.compile("^Delete")).click()
        gone.get_by_text("Really delete?").click()
        gone.wait_for(state="detached")
        opened.check(served.url)
    assert served.get(f"/v1/jobs/{ours['id']}").status_code == 404


def test_what_cannot_be_used_is_said_as_the_server_says_it(
    chrome: Any, served: Server, tmp_path: Path
) -> None:
    (tmp_path / "<img src=x onerror=alert(1)>.nii.gz").write_bytes(gzip.compress(b"no image"))
    with visit(chrome, served.url) as opened:
        page = opened.page
        page.set_input_files("#files", next(tmp_path.iterdir()))
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem-detail")
        assert page.get_attribute("#progress-card", "data-state") == "failed"
        assert page.locator("#progress-card img").count() == 0
        assert page.inner_text("#progress-name").startswith("<img")
        page.click("#problem-close")
        assert page.is_hidden("#problem")


def test_everything_can_be_reached_by_keys(chrome: Any, served: Server) -> None:
    with visit(chrome, served.url) as opened:
        page = opened.page
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate(ACTIVE))
        wanted = ["language", "model", "choose", "choose-folder", "sample", "SUMMARY"]
        assert [name for name in dict.fromkeys(reached) if name in wanted] == wanted
        page.focus("#sample")
        page.keyboard.press("Enter")
        page.wait_for_selector(DONE)
        assert page.inner_text("#said").startswith("Done in")
        page.select_option("#language", "de")
        page.wait_for_selector("html[lang=de]")
        assert page.inner_text("#result-title") == "Ergebnis"
        page.reload()
        page.wait_for_selector("#work:not([hidden])")
        assert page.inner_text("#model-title") == "Modell"
        opened.check(served.url)


def test_users_sign_in(chrome: Any, tmp_path: Path) -> None:
    pytest.importorskip("argon2")
    users = UserFile(tmp_path / "users.json")
    users.add("ann", PASSWORD, "user")
    users.add("eve", PASSWORD, "reader")
    found = start(tmp_path / "server", "--models", "zoo:nuclei", "--users", str(users.path))
    try:
        found.ready()
        with visit(chrome, found.url) as opened:
            page = opened.page
            page.fill("#name", "ann")
            page.fill("#password", "wrong password")
            page.keyboard.press("Enter")
            page.wait_for_selector("#sign-in-problem:not([hidden])")
            page.screenshot(path=tmp_path / "sign-in.png")
            assert page.evaluate(CONTRAST) == []
            assert page.evaluate(NAMELESS) == []
            page.fill("#password", PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_selector("#work:not([hidden])")
            page.click("#sample")
            page.wait_for_selector(DONE)
            assert opened.orange("#flat") > 5000
            page.click("#sign-out")
            page.wait_for_selector("#sign-in:not([hidden])")
            page.fill("#name", "eve")
            page.fill("#password", PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_selector("#reader-hint:not([hidden])")
            assert page.is_disabled("#sample")
            assert opened.hosts == {found.url.removeprefix("http://")}
            # The browser itself notes the refused password; the page has no error.
            assert all("401" in error for error in opened.errors)
    finally:
        found.stop()


def test_the_colour_of_a_label_is_told_from_grey() -> None:
    """What the tests above measure with."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, :] = (180, 120, 20)
    pixels[1, :] = 128

    class Locator:
        def screenshot(self) -> bytes:
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            return stream.getvalue()

    class Page:
        def locator(self, place: str) -> Locator:
            return Locator()

    assert Visit(Page()).orange("#any") == 4
