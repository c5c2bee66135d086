"""UIDs of results, derived from what they are made of.

Who segments the same images with the same model again gets the same UIDs if, and only if, the
result is the same: an archive that is sent both keeps one object. Times of creation are no part.
"""

from __future__ import annotations

import hashlib

import numpy as np

from medseg_nca import __version__
from medseg_nca.io.dicom.objects.source import SourceImages
from medseg_nca.io.dicom.objects.values import new_uid
from medseg_nca.io.segmentation import Segmentation
from medseg_nca.io.volume import Volume


class ResultUids:
    """The UIDs of one object, each by its role.

    Args:
        segmentation: what the object holds.
        source: the images that it was made from.
        *kind: of the object, for example ``"seg", "binary"``, and what else it depends on.
    """

    def __init__(self, segmentation: Segmentation, source: SourceImages, *kind: str) -> None:
        digest = hashlib.sha256()
        algorithm = segmentation.algorithm
        images = [f"{r.instance_uid} {r.frame}" for r in source.references]
        figures = [f"{name} {value:.6g}" for name, value in sorted(segmentation.quality.items())]
        figures += [
            f"{name} {one.dice:.4f} {one.low:.4f} {one.high:.4f} {one.verdict}"
            for name, one in sorted(segmentation.predicted_dice.items())
        ]
        for part in (
            *kind, source.source.study_uid, source.source.series_uid, *images,
            algorithm.name, algorithm.version, algorithm.package_version or __version__,
            segmentation.labels.model_dump_json(), *figures,
            *filter(None, [segmentation.note]),
        ):  # fmt: skip
            digest.update(f"{part}\0".encode("utf-8", "surrogatepass"))
        _add(digest, segmentation.label_map, np.min_scalar_type(_most(segmentation.label_map)))
        self._digest = digest

    def add_probabilities(self, probabilities: Volume) -> None:
        """Let them count too, in the steps of 1/255 that an object holds."""
        for channel in probabilities.array:
            for plane in channel:
                steps = np.around(np.asarray(plane, np.float64) * 255).astype(np.uint8)
                self._digest.update(steps.tobytes())

    def __call__(self, *role: object) -> str:
        """The UID of a role, for example ``"series"``."""
        return new_uid("result", self._digest.hexdigest(), *role)


def _most(volume: Volume) -> int:
    return int(volume.array.max(initial=0))


def _add(digest: hashlib._Hash, volume: Volume, kind: np.dtype[np.generic]) -> None:
    """Add voxels plane by plane, whatever type they have in memory."""
    digest.update(f"{volume.array.shape}\0".encode())
    for plane in volume.array[0]:
        digest.update(np.asarray(plane, kind.newbyteorder("<")).tobytes())
