"""What the page sends; everything else is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_STEPS, MOST_STROKES = 50, 64
MOST_SEED = 2**31 - 1  # numbers of a page are exact up to 2**53
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Begin(_Message):
    """A session is asked for, with the input of that place in the list."""

    input: int = Field(0, ge=0, lt=1_000_000)


class Stroke(_Message):
    """A touch of the brush.

    kind: "erase" sets the channels of cells to zero, "seed" to those of a seed. x, y: where, as
    shares of the picture from its upper left corner. radius: in pixels of the picture.
    """

    kind: Literal["erase", "seed"]
    x: _Share
    y: _Share
    radius: float = Field(ge=0.5, le=128, allow_inf_nan=False)


class Look(_Message):
    """The next picture is asked for, after some strokes and then some steps.

    reset: begin anew first. next_level: begin the next level first. strokes: touches of the brush.
    steps: how many steps. rate: fire rate; None is that of the model. seed: of the fire masks.
    view: "answer", "image", or the number of a channel. overlay: whether the answer lies over the
    image. axis, slice: of a volume; ignored in 2D.
    """

    reset: bool = False
    next_level: bool = False
    strokes: Annotated[tuple[Stroke, ...], Field(max_length=MOST_STROKES, strict=False)] = ()
    steps: int = Field(0, ge=0, le=MOST_STEPS)
    rate: _Share | None = None
    seed: int = Field(0, ge=0, le=MOST_SEED)
    view: Literal["answer", "image"] | Annotated[int, Field(ge=0, lt=100_000)] = "answer"
    overlay: bool = True
    axis: int | None = Field(None, ge=0, le=2)
    slice: int | None = Field(None, ge=0, lt=1_000_000)
