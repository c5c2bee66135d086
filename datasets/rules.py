"""What a data set as a whole must be to be prepared, whatever its layout.

``medseg-nca data check`` reports what breaks these rules, ``preprocess`` refuses it: both ask here,
so that neither is milder than the other. What single files must be, their readers say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

from medseg_nca.config import LabelTable
from medseg_nca.datasets.base import DataSet, Side
from medseg_nca.datasets.layout import names_for
from medseg_nca.errors import DataError
from medseg_nca.io.formats import folders_below, half_images, in_short

# The most labels without names: more numbers than these count objects, or belong to an image.
MANY_LABELS = 64
# More labels than these with the same fault share one message.
MOST_ALONE = 3
# More labels than these without names are doubtful: they may be meant, but packing a mask with loss
# makes such numbers too.
SOME_LABELS = 8
# The most labels in one label map, even if all have names: more numbers than these are an image.
MANY_VALUES = 256
SHOWN_VALUES = 5
THIN = (
    "Change the split (data.split.seed, data.split.file), add cases that have it, or leave the "
    "label out (data.labels)."
)
# The most channels without names: public data sets have up to 4, a time series has dozens.
MANY_CHANNELS = 8
NAME_THEM = (
    "Name the labels, in the data set or in the settings (data.labels); "
    "`medseg-nca data check` names the cases."
)
LIST_THEM = "List images and label maps in a datalist.csv, or put the files into the folder itself."


@dataclass(frozen=True)
class BrokenRule:
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
        """The exception for a command that cannot go on."""
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


def other_channels(dataset: DataSet, channels: Sequence[str]) -> BrokenRule | None:
    """Whether the images have another number of channels than the data set says."""
    if len(channels) == len(dataset.channels):
        return None
    return BrokenRule(
        "other_channels",
        f"The data set names {len(dataset.channels)} channel(s) ({in_short(dataset.channels)}), "
        f"and most images have {len(channels)}: they are called {in_short(channels)}.",
        "Mend the names, or the images.",
    )


def channels_problem(channels: Sequence[str], dims: int) -> BrokenRule | None:
    """Whether 4D images count as volumes of many channels only because no channels are named."""
    count = len(channels)
    if dims != 3 or count <= MANY_CHANNELS or tuple(channels) != names_for(count, dims):
        return None
    return BrokenRule(
        "unnamed_channels",
        f"The images are 4D with {count} volumes that have no names: is it a time series?",
        "A model takes every volume as a channel. If they are channels, name them (`channels` in "
        "dataset.yaml, `channel_names` in dataset.json); else take one volume of each image.",
    )


def label_map_problem(counts: Mapping[int, int], known: frozenset[int] | None) -> BrokenRule | None:
    """What is wrong with the numbers of one label map, whoever reads it.

    Args:
        counts: voxels of each number that occurs.
        known: every number that may occur; None where nobody names the labels.
    """
    most = MANY_LABELS if known is None else MANY_VALUES
    if len(counts.keys() - {0}) > most:
        text = f"has {len(counts)} different values; is it a label map?"
        return BrokenRule("not_a_label_map", text, "Was it resampled, or packed with loss?")
    strange = [v for v in sorted(counts) if (v < 0 if known is None else v not in known)]
    if not strange:
        return None
    shown = ", ".join(f"{value} ({counts[value]:,} voxels)" for value in strange[:SHOWN_VALUES])
    more = ", ..." if len(strange) > SHOWN_VALUES else ""
    allowed = "0 or more" if known is None else str(sorted(known))
    return BrokenRule(
        "unknown_label_value",
        f"has label values outside the table: {shown}{more}. Allowed: {allowed}.",
        "Mend the label map, or name the values in the data set or in the settings (data.labels).",
    )


def labels_problem(table: LabelTable | None, values: Iterable[int]) -> BrokenRule | None:
    """Whether there is nothing to learn, or numbers without names are too many to be labels.

    Args:
        table: of the labels; None where neither data set nor settings have one.
        values: that occur in the label maps; none if there is no label map.
    """
    seen = set(values)
    labelled = seen - {0}
    if not seen and table is not None:
        return None  # the data set is meant for predicting
    if not labelled:
        found = "every label map is empty" if seen else "no case has a label map"
        hint = "Put the label maps where the layout has them, see `medseg-nca data list`."
        return BrokenRule("nothing_to_learn", f"There is nothing to learn: {found}.", hint)
    if table is not None:
        meant = {value for label in table.labels for value in label.values}
        if labelled & meant:
            return None
        values_seen, values_meant = (in_short(map(str, sorted(v))) for v in (labelled, meant))
        text = f"the label maps hold {values_seen}, the labels mean {values_meant}"
        return BrokenRule("nothing_to_learn", f"There is nothing to learn: {text}.", NAME_THEM)
    if min(seen) >= 0 and len(labelled) <= MANY_LABELS:
        return None
    found = str(min(seen)) if min(seen) < 0 else f"{len(labelled)} different numbers"
    text = f"The data set does not name its labels, and its label maps hold {found}."
    return BrokenRule("unnamed_labels", text, NAME_THEM)


def doubtful_labels(table: LabelTable | None, values: Iterable[int]) -> BrokenRule | None:
    """Whether there are so many numbers without names that they may be no labels at all."""
    labelled = sorted(set(values) - {0})
    if table is not None or not SOME_LABELS < len(labelled) <= MANY_LABELS:
        return None
    found = in_short(map(str, labelled))
    text = f"The label maps hold {len(labelled)} numbers without names: {found}."
    hint = "Are all of them labels? Masks that were once JPEG have such numbers. " + NAME_THEM
    return BrokenRule("doubtful_labels", text, hint)


def few_cases(train: Sequence[str], val: Sequence[str]) -> Iterator[BrokenRule]:
    """Whether nothing is left to validate on.

    Args:
        train: case ids of that side.
        val: likewise.
    """
    if not val:
        yield BrokenRule(
            "nothing_to_validate",
            f"No case validates; {len(train)} train: nobody will know how good the model is on "
            "other images.",
            "Add labelled cases (of two, one validates), or set data.split.val above 0.",
        )


def thin_labels(
    names: Sequence[str], present: Mapping[str, Iterable[str]], sides: Mapping[Side, Sequence[str]]
) -> Iterator[BrokenRule]:
    """Labels that a training cannot learn, or its validation cannot see.

    Args:
        names: of the labels.
        present: the labels that occur in a case, by its id.
        sides: the case ids of "train", "val" and "test".
    """
    cases = {
        name: {
            side: [case for case in ids if name in set(present.get(case, ()))]
            for side, ids in sides.items()
        }
        for name in names
    }
    faults: dict[str, list[str]] = {}
    for name, found in cases.items():
        text = _thin(name, found, len(sides.get("train", ())), len(sides.get("val", ())))
        if text:
            faults.setdefault(text, []).append(name)
    for text, found_in in faults.items():
        if len(found_in) > MOST_ALONE:
            many = f"Each of {len(found_in)} labels ({in_short(found_in)})"
            yield BrokenRule("thin_label", f"{many} {text}", THIN)
            continue
        for name in found_in:
            yield BrokenRule("thin_label", f"The label {name!r} {text}", THIN)


def _thin(name: str, found: Mapping[Side, Sequence[str]], train: int, val: int) -> str | None:
    """What is wrong with the cases of one label, None if nothing is."""
    elsewhere = {side: ids for side, ids in found.items() if side != "train" and ids}
    if not found["train"]:
        where = " and ".join(f"{side}: {in_short(ids)}" for side, ids in elsewhere.items())
        kept = f"only in cases that are held out ({where})" if where else "in no case at all"
        return f"is in no training case, {kept}: it cannot be learned."
    if len(found["train"]) == 1 and train > 1:
        return f"is in one training case only ({found['train'][0]}): it can hardly be learned."
    if val and not found.get("val"):
        return "is in no validation case, so it has no part in choosing the best weights."
    return None


def ignored_folders(dataset: DataSet) -> Iterator[BrokenRule]:
    """Images in sub-folders of the folders that the cases lie in, which no layout looks into."""
    files = [file for case in dataset.cases for file in (*case.images, case.label) if file]
    folders = {file.parent for file in files}
    taken = {realpath(folder) for folder in folders}
    for folder in sorted(folders):
        below = folders_below(folder) if folder.is_dir() else {}
        left = {path: count for path, count in below.items() if realpath(path) not in taken}
        if left:
            yield BrokenRule(
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
