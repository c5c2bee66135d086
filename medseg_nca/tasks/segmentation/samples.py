"""Training samples of a prepared data set: what each level looks at, and shares of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg_nca.config.data import AugmentSettings
from medseg_nca.datasets.prepared import PreparedStore
from medseg_nca.models.views import ViewSpec
from medseg_nca.tasks.segmentation.case_arrays import CaseArrays
from medseg_nca.training.level_samples import LevelSamples


class SampleSource(LevelSamples[CaseArrays]):
    """Draws training samples of one size from the cases of a store.

    Args:
        store: the prepared data set.
        case_ids: ids of the cases in the training part of the split.
        specs: what the levels of the model see of a sample.
        augment: random changes of the samples.
        seed: seed of the run.
        foreground: probability that a patch holds a voxel of a label; each label is equally
            likely.

    Raises:
        ConfigError: if ``augment`` flips an axis that does not exist.
    """

    def __init__(
        self,
        store: PreparedStore,
        case_ids: Sequence[str],
        specs: Sequence[ViewSpec],
        augment: AugmentSettings,
        seed: int,
        foreground: float,
    ) -> None:
        super().__init__(store.plan, case_ids, specs, augment, seed, foreground)
        self.store = store

    def load(self, case_id: str) -> CaseArrays:
        """Read a case; one that is smaller than a sample is padded as the predictor pads it."""
        image, label = self.store.load(case_id)
        assert label is not None, "the training part has labelled cases only"
        around = self.padding(image.shape[1:])
        if around is not None:
            image, label = np.pad(image, around, "edge"), np.pad(label, around)
        labels = self.store.labels
        return CaseArrays(image, label, labels.channels, labels.multi_label)
