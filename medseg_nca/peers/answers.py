"""What a checkpoint does not say, and how a person says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from medseg_nca.errors import ConfigError

LETTERS = "xyz"


@dataclass(frozen=True)
class PeerAnswers:
    """What a person, or the configuration of the published code, says about a checkpoint.

    Sizes per axis are in the order of this package, x, y[, z]; levels run from coarse to fine. None
    means that nothing was said.

    Attributes:
        dims: number of spatial axes; the files tell it, so that it is a check only.
        channels: names of the image channels.
        labels: names of the labels, one for each logit.
        axes: which of our axes each spatial axis of the published array is, such as "xyz" for
            arrays as nibabel reads them, "yx" for pictures with rows first.
        scales: size of a cell in voxels, for each level one number or one for each axis.
        steps: number of steps of each level; a single number stands for every level.
        fire_rate: the number in the published configuration, whatever it means there.
        norm: "batch", "running", "none", or a norm that is refused by name.
        padding: of learned filters: "reflect", "circular" or "zeros".
        filters: "learned" or "sobel".
        size: of the images of the training in voxels, per axis.
        spacing: of the images as the model sees them, mm per axis; () leaves each image's own.
        normalise: of the intensities, as in the settings of the preprocessing.
    """

    dims: int | None = None
    channels: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    axes: str | None = None
    scales: tuple[tuple[int, ...], ...] | None = None
    steps: tuple[int, ...] | None = None
    fire_rate: float | None = None
    norm: str | None = None
    padding: str | None = None
    filters: str | None = None
    size: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    normalise: str | None = None

    def over(self, other: PeerAnswers) -> PeerAnswers:
        """Return these answers, and those of ``other`` where these say nothing."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(other, **{name: value for name, value in said.items() if value is not None})

    def get(self, name: str) -> Any:
        """Return an answer that was asked for and given."""
        value = getattr(self, name)
        assert value is not None, f"{name} was not asked for"
        return value


# What each option means; where the published code has it is the family's to say.
MEANINGS = {
    "channels": "names of the image channels, in order, such as MR or T1,T2",
    "labels": "names of the labels, one for each logit, such as prostate",
    "axes": "which of our axes x, y, z each axis of the published array is: xyz or xy for arrays "
    "as nibabel reads them, yx for pictures with rows first",
    "scales": "size of a cell of each level in voxels, coarse to fine, such as 4,1 or "
    "16x16x4,8x8x4,1",
    "steps": "number of steps of each level, coarse to fine, such as 20,40; one number for all",
    "fire_rate": "the number as it stands there, also where it means the opposite",
    "norm": "what normalises the hidden values: batch (statistics of the image itself), running "
    "(statistics of the training) or none",
    "padding": "of the learned filters at the border: reflect, circular or zeros",
    "filters": "what a cell perceives with: learned or sobel",
    "size": "size of the images in voxels, x,y[,z], which small images are padded to",
    "spacing": "of the images as the model sees them in mm, x,y[,z], or own to leave each image's",
    "normalise": "of the intensities: percentile (0.5 and 99.5 to 0 and 1), zscore or none",
}
# Asked of every family: none writes its data's preparation into the weights.
ALWAYS = {
    "channels": "input_channels says how many",
    "labels": "output_channels says how many",
    "size": "input_size",
    "spacing": "nowhere: the published code stretches images to input_size",
    "normalise": "in the code of the data set",
}


def option(name: str) -> str:
    """Return the option of the command line that gives an answer."""
    return f"--{name.replace('_', '-')}"


def check_answered(answers: PeerAnswers, asked: Mapping[str, str], title: str) -> None:
    """Ask for all that is missing, at once.

    Args:
        answers: what was said.
        asked: for each answer that is needed where the published configuration has it.
        title: name of the family.

    Raises:
        ConfigError: naming each missing option, what it means, and where it was published.
    """
    missing = [name for name in MEANINGS if name in asked and getattr(answers, name) is None]
    if not missing:
        return
    lines = [f"  {option(name)}: {MEANINGS[name]} (published: {asked[name]})" for name in missing]
    raise ConfigError(
        f"The files of {title} do not say all that a prediction needs. Give:\n" + "\n".join(lines),
        hint="A config.dt or config.json of the experiment may be given as --settings.",
    )


def check_axes_answer(axes: str, dims: int) -> None:
    """Check that the answer ``axes`` names each axis once.

    Raises:
        ConfigError: saying what is allowed.
    """
    wanted = LETTERS[:dims]
    if sorted(axes) != sorted(wanted):
        raise ConfigError(f"--axes is {axes!r}; it must hold each of {', '.join(wanted)} once.")


def turned(values: Any, axes: str | None, dims: int) -> tuple[int, ...]:
    """Bring one number for each published axis into the order x, y[, z].

    Raises:
        ValueError: if they are not one whole number above 0 for each axis.
    """
    numbers = tuple(values)
    if len(numbers) != dims or any(type(n) is not int or n < 1 for n in numbers):
        raise ValueError(f"{values} are not {dims} numbers above 0")
    letters = axes if axes is not None and len(axes) == dims else LETTERS[:dims]
    return tuple(numbers[letters.index(letter)] for letter in LETTERS[:dims])
