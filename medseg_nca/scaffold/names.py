"""The names of a project: from its folder to those of its package, checked before any is written.

A package is refused whose name Python cannot import, or which would hide something: a module of
Python, an installed package, or a preset, whose names the library keeps for itself. So is one that
pip would take for another: `make install` would put the project in the other's place.
"""

from __future__ import annotations

import importlib.util
import itertools
import keyword
import re
import sys
import unicodedata
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import distribution as find_distribution
from pathlib import Path

from medseg_nca.config.presets import preset_names
from medseg_nca.errors import ConfigError

MAX_LENGTH = 40
# Names that other people's code expects to be something else, although nothing may be installed.
WELL_KNOWN = frozenset({
    "configs", "data", "datasets", "docs", "evaluate", "jax", "keras", "lightning", "models",
    "monai", "ncalab", "nnunet", "nnunetv2", "pipelines", "runs", "setup", "src", "tensorflow",
    "test", "tests", "torch", "torchvision", "transformers", "utils",
})  # fmt: skip
# Distributions that are not called as what is imported from them.
WELL_KNOWN_DISTRIBUTIONS = frozenset({
    "attrs", "beautifulsoup4", "dicom", "gitpython", "grpcio", "itk", "lightning-fabric",
    "msgpack-python", "nvidia-ml-py", "opencv-contrib-python", "opencv-python",
    "opencv-python-headless", "pillow", "protobuf", "pycocotools", "pydicom-seg", "pynrrd",
    "python-dateutil", "python-dotenv", "python-gdcm", "python-multipart", "pytorch",
    "pytorch-lightning", "pyyaml", "scikit-image", "scikit-learn", "simpleitk", "sklearn",
    "tensorboard", "torchio",
})  # fmt: skip
_SPACE = re.compile(r"[ .-]+")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class ProjectNames:
    """What a project is called.

    Attributes:
        title: name of its folder, as people write it.
        package: name of the Python package, and of the preset.
    """

    title: str
    package: str

    @property
    def distribution(self) -> str:
        """The name by which pip knows the project, as pip compares names."""
        return _distribution(self.package)


def names_of(folder: Path) -> ProjectNames:
    """Return the names of the project in a folder, which need not exist.

    Raises:
        ConfigError: if no package can have the name; the hint suggests another.
    """
    title = folder.name.strip()
    package = _SPACE.sub("_", title).lower()
    reason = why_not(package)
    if reason is not None:
        better = folder.with_name(_better(title))
        raise ConfigError(
            f"{title!r}: the package {package!r} {reason}.", hint=f"For example: {better}"
        )
    return ProjectNames(title, package)


def why_not(package: str) -> str | None:
    """Return why a package cannot have a name, as the end of a sentence; None if it can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package):
        return (
            "is no name that Python can import: it must begin with a letter, and only letters "
            "a to z, digits, - and _ may follow"
        )
    if package.endswith("_"):
        return "must end with a letter or a digit: pip does not know a name with an end like this"
    if len(package) > MAX_LENGTH:
        return f"has {len(package)} letters; at most {MAX_LENGTH} are allowed"
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        return "is a word of the language Python"
    if package in sys.stdlib_module_names:
        return "would hide a module of Python itself"
    if package in WELL_KNOWN:
        return "would hide what other people's code calls so"
    if _installed(package):
        return "would hide an installed package"
    distribution = _distribution(package)
    if distribution in WELL_KNOWN_DISTRIBUTIONS:
        return f"would be to pip what others publish as {distribution!r}"
    if _distributed(distribution):
        return f"would take the place of {distribution!r}, which is installed"
    if package in {*preset_names(), *preset_names("model")}:
        return "would have a preset whose name is taken already"
    return None


def _installed(package: str) -> bool:
    """Whether a package can be imported; a plain folder in the current one is none."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return True
    return found is not None and found.origin is not None


def _distribution(package: str) -> str:
    """Return the name of a package's distribution, written as pip compares such names."""
    return re.sub(r"[-_.]+", "-", package)


def _distributed(distribution: str) -> bool:
    """Whether pip has installed something of that name."""
    try:
        find_distribution(distribution)
    except PackageNotFoundError:
        return False
    return True


def _better(title: str) -> str:
    """Return a name like the given one that a project can have."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    word = _NOT_IN_NAMES.sub("_", plain).strip("_")[: MAX_LENGTH - len("_project")].strip("_")
    if not word:
        word = "project"
    tried = itertools.chain(
        (word, f"my_{word}", f"{word}_project"), (f"my_{word}_{n}" for n in itertools.count(2))
    )
    return next(name for name in tried if why_not(name) is None)
