"""What all figures share: a canvas without global state, colours, and how they are written.

Figures are built from :class:`matplotlib.figure.Figure` and never through ``pyplot``, which keeps
every figure alive and needs a backend that fits the machine.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from medseg_nca.errors import OutputError

# Okabe and Ito (2008): distinct for all common kinds of colour blindness. Ordered so that the first
# ones also stand out on a grey image.
PALETTE = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
# Areas of colour on a grey image: strong ones of about the same hues. Under each kind of colour
# blindness (Machado et al. 2009) the first three differ by 25 and any two by 10 (CIEDE2000).
VIVID = ("#FFB000", "#1E96FF", "#D0006F", "#00A05A", "#FFF27A", "#7A3CFF", "#A03000")
INK, FAINT, GRID = "#1f2933", "#6b7785", "#dfe4ea"
DPI = 110
LETTERS_PER_INCH = 9.0  # how many letters of a headline fit into an inch


def colour(number: int) -> str:
    """The colour of the label at that place in the table; they repeat after the seventh."""
    return PALETTE[number % len(PALETTE)]


def vivid(number: int) -> str:
    """The colour that fills the label at that place in the table; they repeat after the seventh."""
    return VIVID[number % len(VIVID)]


def new_figure(width: float, height: float, *, dpi: int = DPI) -> Figure:
    """An empty white figure, its size in inches; ``dpi`` is dots per inch."""
    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09)
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> Axes:
    """Give a plot quiet axes, a light grid and its captions."""
    axes.set_title(title, fontsize=11, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(x, fontsize=9, color=FAINT)
    axes.set_ylabel(y, fontsize=9, color=FAINT)
    axes.tick_params(which="both", labelsize=8.5, colors=FAINT, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def literal(text: str) -> str:
    """The text for a tick or a legend, where matplotlib would read ``$`` as a formula."""
    return text.replace("$", r"\$")


def headline(figure: Figure, text: str) -> None:
    """Write a line above the whole figure; ``$`` in it means itself.

    What is too long for the figure loses its middle: names of files are long at the front.
    """
    room = int(figure.get_figwidth() * LETTERS_PER_INCH)
    if len(text) > room:
        front = room // 3
        text = f"{text[:front]}…{text[-(room - front - 1) :]}"
    if text:
        figure.suptitle(text, fontsize=12, color=INK, fontweight="bold", parse_math=False)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG.

    Raises:
        OutputError: if it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return store(buffer.getvalue(), path)


def store(content: bytes, path: Path) -> Path:
    """Write a file so that there is all of it or nothing; folders are created.

    Raises:
        OutputError: if it cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)  # mkstemp gives the owner alone access
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from error
    return path
