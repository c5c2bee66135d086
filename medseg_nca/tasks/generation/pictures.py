"""Draw the growth of a model after its training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch

from medseg_nca.tasks.generation.automaton import GrowingNca
from medseg_nca.tasks.generation.growth import Film, shown, spread
from medseg_nca.viz.growth import growth_gif, growth_strip

_FRAMES = 60


@torch.no_grad()
def draw_growth(model: GrowingNca, names: Sequence[str], folder: Path) -> list[Path]:
    """Draw how each target grows for twice the trained steps, and return the files.

    Raises:
        OutputError: if a file cannot be written.
    """
    files = []
    for number, name in enumerate(names):
        state = model.seed_state(model.genome(number)).to(model.targets.device)
        film = Film(spread(2 * model.steps, _FRAMES))
        film.first(model.visible(state))
        done = itertools.count(1)

        def record(now: torch.Tensor, film: Film = film, done: itertools.count[int] = done) -> None:
            film.add(next(done), model.visible(now))

        model.run(state, 2 * model.steps, (number,), record=record)
        captions = shown(film.numbers)
        files.append(growth_gif(film.frames, captions, folder / f"{name}.gif"))
        some = range(0, len(film.frames), max(len(film.frames) // 6, 1))
        strip = [film.frames[place] for place in some], [captions[place] for place in some]
        files.append(growth_strip(*strip, folder / f"{name}.png"))
    return files
