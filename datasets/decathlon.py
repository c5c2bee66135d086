"""The ten public tasks of the Medical Segmentation Decathlon (Antonelli et al. 2022).

The archives lie in the AWS open-data bucket that MONAI uses; the checksums are those of MONAI's
``DecathlonDataset`` (a test compares them). Sizes are of the archive, rounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from medseg_nca.errors import DataError
from medseg_nca.suggest import unknown

BASE = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
LICENCE = "CC-BY-SA 4.0"
REFERENCE = "Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9; Simpson et al. 2019"


@dataclass(frozen=True)
class RemoteDataSet:
    """A data set that can be fetched.

    Attributes:
        name: of the folder and the archive.
        about: what is to be segmented.
        modality: of the images.
        cases: with labels.
        megabytes: of the archive, roughly.
        md5: of the archive.
    """

    name: str
    about: str
    modality: str
    cases: int
    megabytes: int
    md5: str
    licence: str = LICENCE
    reference: str = REFERENCE

    @property
    def url(self) -> str:
        """Where the archive lies."""
        return f"{BASE}/{self.name}.tar"


_ROWS = (
    ("Task01_BrainTumour", "oedema, enhancing and other tumour", "MRI, 4 channels", 484, 7100,
     "240a19d752f0d9e9101544901065d872"),
    ("Task02_Heart", "left atrium", "MRI", 20, 435, "06ee59366e1e5124267b774dbd654057"),
    ("Task03_Liver", "liver and tumour", "CT", 131, 27000, "a90ec6c4aa7f6a3d087205e23d4e6397"),
    ("Task04_Hippocampus", "anterior and posterior hippocampus", "MRI", 260, 27,
     "9d24dba78a72977dbd1d2e110310f31b"),
    ("Task05_Prostate", "peripheral zone and transition zone", "MRI, 2 channels", 32, 229,
     "35138f08b1efaef89d7424d2bcc928db"),
    ("Task06_Lung", "lung tumour", "CT", 63, 8500, "8afd997733c7fc0432f71255ba4e52dc"),
    ("Task07_Pancreas", "pancreas and tumour", "CT", 281, 11400,
     "4f7080cfca169fa8066d17ce6eb061e4"),
    ("Task08_HepaticVessel", "hepatic vessels and tumour", "CT", 303, 8700,
     "641d79e80ec66453921d997fbf12a29c"),
    ("Task09_Spleen", "spleen", "CT", 41, 1500, "410d4a301da4e5b2f6f86ec3ddba524e"),
    ("Task10_Colon", "colon cancer", "CT", 126, 5800, "bad7a188931dc2f6acf72b08eb6202d0"),
)  # fmt: skip
SOURCES: dict[str, RemoteDataSet] = {row[0]: RemoteDataSet(*row) for row in _ROWS}


def find_source(name: str) -> RemoteDataSet:
    """Return a task by its name, or a part of it in any case ("hippocampus", "task04").

    Raises:
        DataError: if there is no such task.
    """
    wanted = _plain(name)
    for known, source in SOURCES.items():
        if wanted in {_plain(known), *map(_plain, known.split("_", 1))}:
            return source
    raise DataError(unknown("data set to fetch", name, SOURCES))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
