"""A data layout: ``pairs.txt`` with the path of an image and of its label map on each line."""

from __future__ import annotations

from pathlib import Path

from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.layout import look, modality_of, names_for, safe_id, sorted_cases
from medseg_nca.errors import DataError
from medseg_nca.io.formats import stem

FILE = "pairs.txt"


class Pairs:
    """See :class:`medseg_nca.datasets.find.Adapter`."""

    layout = f"{FILE} with the path of an image and of its label map on each line"
    rank = 5

    def recognises(self, path: Path) -> bool:
        """A folder that has the file."""
        return (path / FILE).is_file()

    def open(self, path: Path) -> DataSet:
        """Read the pairs; the paths are relative to the folder."""
        cases = []
        for number, line in enumerate((path / FILE).read_text("utf-8").splitlines(), start=1):
            files = line.split()
            if len(files) != 2:
                raise DataError(
                    f"{path / FILE}: line {number} names {len(files)} files; it must name an image "
                    "and its label map."
                )
            image, label = (path / file for file in files)
            cases.append(Case(safe_id(stem(image)), (image,), label))
        found = sorted_cases(cases, path)
        dims, count = look(found)
        channels = names_for(count, dims)
        return DataSet(
            name=path.resolve().name,
            root=path,
            format="example_pairs",
            dims=dims,
            channels=channels,
            cases=found,
            modality=modality_of(channels),
        )


ADAPTER = Pairs()
