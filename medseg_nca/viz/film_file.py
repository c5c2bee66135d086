"""Films as files: frames are taken as they come, and few of them are in memory at a time."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from PIL import Image

from medseg_nca.errors import DependencyError, OutputError
from medseg_nca.viz.canvas import store
from medseg_nca.viz.gif import palette_of, with_palette, write_frames

Colours = Sequence[tuple[int, int, int]]
LAST = 2000  # milliseconds that the last frame of a GIF stays
FFMPEG = "ffmpeg"
_SOME = 5  # frames from which the palette of a GIF is made


def gif_film(frames: Iterable[Image.Image], path: Path, fps: float, kept: Colours = ()) -> int:
    """Write a GIF.

    The frames wait in a temporary file, because the palette is made from some of all of them; in
    memory each takes a byte for a pixel.

    Args:
        frames: one at least, "RGB" and of one size.
        path: of the film.
        fps: frames a second.
        kept: colours that must stay as they are.

    Returns:
        The number of frames.

    Raises:
        OutputError: if the file cannot be written.
    """
    size, count = (0, 0), 0
    with tempfile.TemporaryFile() as waiting:
        for frame in frames:
            size, count = frame.size, count + 1
            waiting.write(frame.tobytes())
        places = {round(number * (count - 1) / (_SOME - 1)) for number in range(_SOME)}
        palette = palette_of([_waiting(waiting, size, place) for place in sorted(places)], kept)
        small = [with_palette(_waiting(waiting, size, place), palette) for place in range(count)]
    write_frames(small, palette, path, pause=round(1000 / fps), last=LAST)
    return count


def _waiting(waiting: IO[bytes], size: tuple[int, int], place: int) -> Image.Image:
    length = 3 * size[0] * size[1]
    waiting.seek(place * length)
    return Image.frombytes("RGB", size, waiting.read(length))


def mp4_film(frames: Iterable[Image.Image], path: Path, fps: float, kept: Colours = ()) -> int:
    """Write an MP4 with the program ``ffmpeg``, which gets each frame as it comes.

    The arguments and the result are those of :func:`gif_film`; sizes are even.

    Raises:
        DependencyError: if there is no ffmpeg.
        OutputError: if it fails, or the file cannot be written.
    """
    program, count = ffmpeg(), 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        made = Path(folder, "film.mp4")
        process: subprocess.Popen[bytes] | None = None
        try:
            for frame in frames:
                if process is None:
                    command = _command(program, frame.size, fps, made)
                    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
                assert process.stdin is not None
                with suppress(BrokenPipeError):  # its exit code says why
                    process.stdin.write(frame.tobytes())
                count += 1
        except BaseException:
            if process is not None:
                process.kill()
                process.communicate()
            raise
        assert process is not None, "a film has a frame at least"
        process.communicate()
        if process.returncode:
            said.seek(0)
            reason = said.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise OutputError(
                f"{path}: ffmpeg could not make the film ({reason or process.returncode}).",
                hint="Use --format gif.",
            )
        store(made.read_bytes(), path)
    return count


def _command(program: str, size: tuple[int, int], fps: float, made: Path) -> list[str]:
    """H.264 in the pixel format that browsers play, and without the time of day in it."""
    return [
        program, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{size[0]}x{size[1]}", "-r", f"{fps:g}", "-i", "-", "-an",
        "-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p", "-threads", "1",
        "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1",
        "-movflags", "+faststart", str(made),
    ]  # fmt: skip


def ffmpeg() -> str:
    """Return the path of ``ffmpeg``.

    Raises:
        DependencyError: if it is not there.
    """
    found = shutil.which(FFMPEG)
    if found is None:
        raise DependencyError(
            "--format mp4 needs the program ffmpeg, which is not on the path.",
            hint="Install it (apt-get install ffmpeg), or use --format gif.",
        )
    return found


FORMATS: dict[str, Callable[[Iterable[Image.Image], Path, float, Colours], int]] = {
    "gif": gif_film,
    "mp4": mp4_film,
}
