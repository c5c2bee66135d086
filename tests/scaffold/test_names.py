"""Names of projects: what a package can be called, and what is suggested instead."""

from __future__ import annotations

import importlib
import keyword
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg_nca.errors import ConfigError
from medseg_nca.scaffold.names import names_of, why_not


@pytest.mark.parametrize(
    ("folder", "package", "distribution"),
    [
        ("my-study", "my_study", "my-study"),
        ("My Study", "my_study", "my-study"),
        ("knee.v2", "knee_v2", "knee-v2"),
        ("studies/2026/atrium", "atrium", "atrium"),
    ],
)
def test_names_come_from_the_folder(folder: str, package: str, distribution: str) -> None:
    names = names_of(Path(folder))
    assert (names.package, names.distribution) == (package, distribution)
    assert names.title == Path(folder).name


@pytest.mark.parametrize(
    ("name", "reason", "better"),
    [
        ("datasets", "hide what other people's code calls so", "my_datasets"),
        ("torch", "hide what other people's code calls so", "my_torch"),
        ("medseg_nca", "hide an installed package", "my_medseg_nca"),
        ("nibabel", "hide an installed package", "my_nibabel"),
        ("PyYAML", "to pip what others publish as 'pyyaml'", "my_pyyaml"),
        ("scikit.learn", "to pip what others publish as 'scikit-learn'", "my_scikit_learn"),
        ("opencv_python", "to pip what others publish as 'opencv-python'", "my_opencv_python"),
        ("numpy.", "must end with a letter or a digit", "my_numpy"),
        ("study_", "must end with a letter or a digit", "study"),
        ("json", "hide a module of Python", "my_json"),
        ("class", "word of the language", "my_class"),
        ("demo", "preset whose name is taken", "my_demo"),
        ("med-nca", "preset whose name is taken", "my_med_nca"),
        ("3d-hearts", "begin with a letter", "my_3d_hearts"),
        ("Herzöhren", "letters a to z", "herzohren"),
        ("my\nstudy", "letters a to z", "my_study"),
        ("心", "letters a to z", "project"),
        ("x" * 50, "50 letters; at most 40", "x" * 32),
    ],
)
def test_a_bad_name_is_refused_with_a_better_one(name: str, reason: str, better: str) -> None:
    with pytest.raises(ConfigError) as caught:
        names_of(Path("studies", name))
    assert reason in caught.value.message
    assert str(caught.value.hint).endswith(str(Path("studies", better)))


@settings(max_examples=25)
@given(st.text(min_size=1, max_size=60).filter(lambda text: Path(text).name == text))
def test_every_name_can_be_imported_or_has_a_better_one(title: str) -> None:
    folder = Path(title)
    try:
        names = names_of(folder)
    except ConfigError as error:
        better = str(error.hint).removeprefix("For example: ")
        names = names_of(Path(better))
    assert names.package.isidentifier()
    assert not keyword.iskeyword(names.package)
    assert names.package not in sys.stdlib_module_names


def test_a_plain_folder_hides_nothing_and_a_package_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "heart_study").mkdir()
    importlib.invalidate_caches()
    assert why_not("heart_study") is None
    (tmp_path / "heart_study" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert why_not("heart_study") == "would hide an installed package"


def test_a_name_that_pip_knows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed may be called otherwise than what is imported from it."""
    assert why_not("heart__tools") is None
    info = tmp_path / "Heart.Tools-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Heart.Tools\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert why_not("heart__tools") == "would take the place of 'heart-tools', which is installed"
    assert why_not("heart_tool") is None
