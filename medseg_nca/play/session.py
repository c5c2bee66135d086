"""One automaton at work for one page: its state, what is painted into it, and its pictures."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.errors import ConfigError
from medseg_nca.play.messages import Look, Stroke
from medseg_nca.stages.stage import Stage, numbers, plane_of
from medseg_nca.viz.gif import upright
from medseg_nca.viz.slices import Cut, fullest_plane, to_colours
from medseg_nca.viz.tints import signed

Floats = NDArray[np.float32]


class PlaySession:
    """Takes steps only when a picture is asked for, so that it stops where nobody looks.

    Args:
        stage: the automaton and its input.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._lock = threading.Lock()
        finest = stage.levels[-1]
        cells = tuple(n * s for n, s in zip(finest.size, finest.scale, strict=True))
        self.shape = cells if stage.image is None else stage.image.shape[1:]
        self._pictures: dict[tuple[int | None, int], Floats | None] = {}
        self._reset()

    def about(self) -> dict[str, Any]:
        """Return what the page has to know, as plain values."""
        stage = self.stage
        cut = self._middle()
        return {
            "dims": stage.dims,
            "shape": list(self.shape),
            "axis": cut.axis,
            "slice": cut.index,
            "image": stage.image is not None,
            "channels": list(stage.names),
            "legend": [[name, list(colour)] for name, colour in stage.legend],
            "levels": [{"steps": each.steps, "scale": list(each.scale)} for each in stage.levels],
            "rates": [stage.cell(n).settings.fire_rate for n in range(len(stage.levels))],
            "notes": list(stage.notes),
        }

    def look(self, wish: Look) -> bytes:
        """Do what is asked for, and return the picture.

        Returns:
            Four bytes with the length of what follows (little-endian), the state of the session as
            JSON, and the pixels, four bytes each (red, green, blue, 255), row by row.

        Raises:
            ConfigError: if there is no such channel or slice.
            NonFiniteStateError: if a value becomes infinite; the state before it stays.
        """
        with self._lock, torch.inference_mode():
            cut = self._cut(wish)
            self._check_view(wish)
            if wish.reset:
                self._reset()
            if wish.next_level and self.level + 1 < len(self.stage.levels):
                self._enter(self.level + 1)
            for stroke in wish.strokes:
                self._paint(stroke, cut)
            for _ in range(wish.steps):
                self._step(wish)
            return self._answer(wish, cut)

    def _reset(self) -> None:
        with torch.inference_mode():
            self.level, self.number, self.total, self.change = 0, 0, 0, 0.0
            self.state: Tensor = self.stage.start(0, None)

    def _enter(self, level: int) -> None:
        self.state = self.stage.start(level, self.state)
        self.level, self.number = level, 0

    def _step(self, wish: Look) -> None:
        stage = self.stage
        if self.level + 1 < len(stage.levels) and self.number >= stage.levels[self.level].steps:
            self._enter(self.level + 1)
        after = stage.step(self.level, self.state, self.number, wish.seed, wish.rate)
        self.change = stage.change(self.level, self.state, after)
        self.state = after
        self.number, self.total = self.number + 1, self.total + 1

    def _paint(self, stroke: Stroke, cut: Cut) -> None:
        """Change the cells under the brush: a disc, and in a volume a ball around its middle."""
        stage, level = self.stage, self.stage.levels[self.level]
        across, up = cut.axes
        place = [0.0] * stage.dims
        place[across] = stroke.x * self.shape[across]
        place[up] = (stroke.y if stage.dims == 2 else 1 - stroke.y) * self.shape[up]
        if cut.axis is not None:
            place[cut.axis] = cut.index + 0.5
        away = np.zeros(level.size, np.float32)
        for axis, (size, scale) in enumerate(zip(level.size, level.scale, strict=True)):
            line = ((np.arange(size, dtype=np.float32) + 0.5) * scale - place[axis]) ** 2
            away += line.reshape([-1 if a == axis else 1 for a in range(stage.dims)])
        mask = away <= stroke.radius**2
        mask.flat[int(away.argmin())] = True  # the cell itself, however small the brush
        under = torch.from_numpy(mask).to(self.state.device)
        values = torch.zeros(self.state.shape[1] - stage.fixed)
        if stroke.kind == "seed":
            values = stage.seed_values(self.level)
        values = values.to(self.state).view(1, -1, *[1] * stage.dims)
        own = torch.where(under, values, self.state[:, stage.fixed :])
        self.state = torch.cat((self.state[:, : stage.fixed], own), 1)

    def _check_view(self, wish: Look) -> None:
        if isinstance(wish.view, int) and wish.view >= len(self.stage.names):
            raise ConfigError(f"view: there are the channels 0 to {len(self.stage.names) - 1}.")
        if wish.view == "image" and self.stage.image is None:
            raise ConfigError("view: this automaton sees no image.")

    def _middle(self) -> Cut:
        if self.stage.dims == 2:
            return Cut(None, 0, 2)
        found = self.stage.found(self.level, self.state)
        if found is not None and found.any():
            cut = fullest_plane(found)
            assert cut.axis is not None
            scale = self.stage.levels[self.level].scale[cut.axis]
            return Cut(cut.axis, min(cut.index * scale, self.shape[cut.axis] - 1), 3)
        return Cut(2, self.shape[2] // 2, 3)

    def _cut(self, wish: Look) -> Cut:
        if self.stage.dims == 2:
            return Cut(None, 0, 2)
        axis = 2 if wish.axis is None else wish.axis
        index = self.shape[axis] // 2 if wish.slice is None else wish.slice
        if index >= self.shape[axis]:
            raise ConfigError(f"slice: axis {axis} has the slices 0 to {self.shape[axis] - 1}.")
        return Cut(axis, index, 3)

    def _picture(self, cut: Cut) -> Floats | None:
        key = (cut.axis, cut.index)
        if key not in self._pictures:
            if len(self._pictures) > 64:
                self._pictures.clear()
            image = self.stage.image
            self._pictures[key] = None if image is None else to_colours(image, cut)
        return self._pictures[key]

    def _pixels(self, wish: Look, cut: Cut) -> Floats:
        stage, level = self.stage, self.stage.levels[self.level]
        picture, plane = self._picture(cut), plane_of(cut, self.stage.levels[self.level])
        factors = [level.scale[axis] for axis in cut.axes]
        size = [self.shape[axis] for axis in cut.axes]
        if wish.view == "image" and picture is not None:
            return picture
        if isinstance(wish.view, int):
            cells = signed(plane.of(numbers(self.state)[wish.view]))
            return cells.repeat(factors[0], 0).repeat(factors[1], 1)[: size[0], : size[1]]
        tint = stage.tint(self.level, self.state, plane)
        return tint.enlarged(factors, size).over(picture if wish.overlay else None)

    def _answer(self, wish: Look, cut: Cut) -> bytes:
        pixels = upright(self._pixels(wish, cut), self.stage.dims)
        height, width = pixels.shape[:2]
        opaque = np.full((height, width, 4), 255, np.uint8)
        opaque[..., :3] = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
        tree = {
            "width": width,
            "height": height,
            "level": self.level + 1,
            "levels": len(self.stage.levels),
            "step": self.number,
            "steps": self.stage.levels[self.level].steps,
            "total": self.total,
            "change": self.change,
            "readings": dict(self.stage.readings(self.level, self.state)),
        }
        text = json.dumps(tree, allow_nan=False).encode()
        return len(text).to_bytes(4, "little") + text + opaque.tobytes()
