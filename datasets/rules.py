"""What a data set as a whole must be to be prepared, whatever its layout.

``medseg-nca data check`` reports what breaks these rules, ``preprocess`` refuses it: both ask here,
so that neither is milder than the other. What single files must be, their readers say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

from medseg_nca.config import LabelTable
from medseg_nca.datasets.base import DataSet
from medseg_nca.datasets.layout import names_for
from medseg_nca.errors import DataError
from medseg_nca.io.formats import folders_below, half_images, in_short

# Of labels that nobody names: more are numbers of objects, or an image.
MANY_LABELS = 64
# Of channels that nobody names: the most of a public data set are 4; a time series has dozens.
MANY_CHANNELS = 8
NAME_THEM = (
    "Name the labels, in the data set or in the settings (data.labels); "
    "`medseg-nca data check` names the cases."
)
LIST_THEM = "List images and label maps in a datalist.csv, or put the files into the folder itself."


@dataclass(frozen=True)
class Problem:
    """A rule that is broken.

    Attributes:
        code: the kind, for programs.
        message: what is wrong.
        hint: what to do.
    """

    code: str
    message: str
    hint: str

    def error(self) -> DataError:
        """As what is raised where nothing can go on."""
        return DataError(self.message, hint=self.hint)


def usual(values: Sequence[int], expected: int) -> int:
    """The most frequent value; a layout that only looked at its first case may expect another."""
    return max(
        sorted(set(values)), key=lambda v: (values.count(v), v == expected), default=expected
    )


def usual_channels(dataset: DataSet, counts: Sequence[int], dims: int) -> tuple[str, ...]:
    """The data set's channels, unless most cases have another number of them.

    Args:
        dataset: names its channels.
        counts: how many channels each case has.
        dims: spatial axes of the cases.
    """
    count = usual(counts, len(dataset.channels))
    return dataset.channels if count == len(dataset.channels) else names_for(count, dims)


def other_channels(dataset: DataSet, channels: Sequence[str]) -> Problem | None:
    """Whether the images have another number of channels than the data set says."""
    if len(channels) == len(dataset.channels):
        return None
    return Problem(
        "other_channels",
        f"The data set names {len(dataset.channels)} channel(s) ({in_short(dataset.channels)}), "
        f"and most images have {len(channels)}: they are called {in_short(channels)}.",
        "Mend the names, or the images.",
    )


def channels_problem(channels: Sequence[str], dims: int) -> Problem | None:
    """Whether 4D images are taken for volumes of many channels only because nobody named these."""
    count = len(channels)
    if dims != 3 or count <= MANY_CHANNELS or tuple(channels) != names_for(count, dims):
        return None
    return Problem(
        "unnamed_channels",
        f"The images are 4D with {count} volumes that have no names: is it a time series?",
        "A model takes every volume as a channel. If they are channels, name them (`channels` in "
        "dataset.yaml, `channel_names` in dataset.json); else take one volume of each image.",
    )


def labels_problem(table: LabelTable | None, values: Iterable[int]) -> Problem | None:
    """Whether there is nothing to learn, or nobody says what numbers mean that need it.

    Args:
        table: of the labels; None where neither data set nor settings have one.
        values: that occur in the label maps; none if there is no label map.
    """
    seen = set(values)
    labelled = seen - {0}
    if not seen and table is not None:
        return None  # to be predicted, not to be learned from
    if not labelled:
        found = "every label map is empty" if seen else "no case has a label map"
        hint = "Put the label maps where the layout has them, see `medseg-nca data list`."
        return Problem("nothing_to_learn", f"There is nothing to learn: {found}.", hint)
    if table is not None:
        meant = {value for label in table.labels for value in label.values}
        if labelled & meant:
            return None
        values_seen, values_meant = (in_short(map(str, sorted(v))) for v in (labelled, meant))
        text = f"the label maps hold {values_seen}, the labels mean {values_meant}"
        return Problem("nothing_to_learn", f"There is nothing to learn: {text}.", NAME_THEM)
    if min(seen) >= 0 and len(labelled) <= MANY_LABELS:
        return None
    found = str(min(seen)) if min(seen) < 0 else f"{len(labelled)} different numbers"
    text = f"The data set does not name its labels, and its label maps hold {found}."
    return Problem("unnamed_labels", text, NAME_THEM)


def ignored_folders(dataset: DataSet) -> Iterator[Problem]:
    """Images in sub-folders of the folders that the cases lie in, which no layout looks into."""
    files = [file for case in dataset.cases for file in (*case.images, case.label) if file]
    folders = {file.parent for file in files}
    taken = {realpath(folder) for folder in folders}
    for folder in sorted(folders):
        below = folders_below(folder) if folder.is_dir() else {}
        left = {path: count for path, count in below.items() if realpath(path) not in taken}
        if left:
            yield Problem(
                "sub_folder",
                f"{folder}: {sum(left.values())} file(s) in sub-folders are passed over: "
                f"{in_short(path.relative_to(folder).as_posix() for path in left)}.",
                LIST_THEM,
            )


def no_images(folder: Path) -> DataError:
    """What to say of a folder without an image that can be read."""
    below = folders_below(folder)
    if not below:
        return DataError(f"{folder}: holds no image that can be read.", hint=half_images(folder))
    names = in_short(path.relative_to(folder).as_posix() for path in below)
    return DataError(
        f"{folder}: its images lie in sub-folders ({names}), which are not looked into.",
        hint=LIST_THEM,
    )
