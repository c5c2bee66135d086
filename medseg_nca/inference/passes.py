"""Single stochastic passes of a model over one image, for measures of how much they differ."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.inference.accepted import compare_with_training
from medseg_nca.inference.memory import footprint
from medseg_nca.inference.predictor import Predictor, stream_padded
from medseg_nca.inference.step_factor import scaled_steps
from medseg_nca.io.peek import Extent
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.models import RunOptions
from medseg_nca.models.inference import collect
from medseg_nca.transforms.prepare import prepare


def stochastic_passes(
    predictor: Predictor, volume: Volume, count: int, job: Job | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of each pass, ``(K, *prepared)`` on the prepared grid.

    The passes are those of ``prediction.uncertainty``: each with a fire mask that is drawn from a
    seed of its own, without flips; the members of an ensemble take turns. A member without a fire
    mask has one pass, because its passes would all be the same.

    Args:
        predictor: the model and its settings.
        volume: the image.
        count: number of passes.
        job: asked before every pass, tile and batch of steps whether to go on.

    Raises:
        ImageError: as :meth:`.Predictor.predict` raises it.
        Interrupted: if the job was cancelled.
    """
    loaded, settings, job = predictor.loaded, predictor.settings, job or Job()
    plan = compare_with_training(volume, predictor.spec.plan, settings).plan
    image = torch.from_numpy(prepare(volume, plan).image).unsqueeze(0).to(loaded.device)
    need = footprint(loaded, settings, Extent.of(volume), volume.name)
    memory = max(need.left(settings.memory_budget_gb * 1e9), need.model or 0.0)
    rounds = count if predictor.model.stochastic else len(loaded.members)
    for number in range(rounds):
        job.check()
        member = loaded.members[number % len(loaded.members)]
        options = RunOptions(
            seed=settings.seed + number,
            fire="sample",
            memory_gb=memory / 1e9,
            precision=settings.precision,
            job=job.part(number, rounds),
            steps=scaled_steps(member, settings.step_factor),
        )
        with torch.inference_mode():
            logits, sink = collect(image, predictor.spec.labels.channels)
            stream_padded(member, image, predictor.spec.plan.crop_size, options, sink)
            yield _probabilities(logits[0], predictor.spec.labels.multi_label)


def _probabilities(logits: Tensor, multi_label: bool) -> NDArray[np.float32]:
    found: NDArray[np.float32] = (
        (logits.sigmoid() if multi_label else logits.softmax(0)).float().cpu().numpy()
    )
    return found
