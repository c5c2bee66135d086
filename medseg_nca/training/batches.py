"""Make batches of a learner's samples, from any iteration on, for each training process."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from medseg_nca.training.learner import Batch, Learner


class _Samples(Dataset[Batch]):
    """A data set without an end: entry ``n`` is the learner's sample number ``n``."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def __getitem__(self, index: int) -> Batch:
        return self.learner.sample(index)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def batches(
    learner: Learner,
    *,
    first: int,
    last: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of the iterations ``first`` to ``last - 1``, counted from 0.

    Each process, ``rank`` of ``world_size``, gets samples of its own. The samples of an iteration
    depend only on the iteration's number.
    """
    per_iteration = batch_size * world_size
    indices = [
        [iteration * per_iteration + rank * batch_size + k for k in range(batch_size)]
        for iteration in range(first, last)
    ]
    loader = DataLoader(
        _Samples(learner),
        batch_sampler=indices,
        collate_fn=learner.collate,
        num_workers=workers,
        worker_init_fn=_one_thread,
        persistent_workers=False,
    )
    return iter(loader)
