"""Batches of a task's samples, from any iteration on, for one of several processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from medseg_nca.tasks import Task
from medseg_nca.tasks.base import Batch


class _Samples(Dataset[Batch]):
    """Random access to a task's endless row of samples."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getitem__(self, index: int) -> Batch:
        return self.task.sample(index)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def batches(
    task: Task,
    *,
    first: int,
    last: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of iterations ``first`` to ``last``.

    Process ``rank`` of ``world_size`` gets samples of its own; the samples of an iteration
    depend on nothing but its number.
    """
    per_iteration = batch_size * world_size
    indices = [
        [iteration * per_iteration + rank * batch_size + k for k in range(batch_size)]
        for iteration in range(first, last)
    ]
    loader = DataLoader(
        _Samples(task),
        batch_sampler=indices,
        collate_fn=task.collate,
        num_workers=workers,
        worker_init_fn=_one_thread,
        persistent_workers=False,
    )
    return iter(loader)
