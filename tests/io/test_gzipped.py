"""Gzip from several threads: one member that every reader takes."""

from __future__ import annotations

import gzip
import io
import zlib

import numpy as np
import pytest

from medseg_nca.io.gzipped import GzipWriter

MIB = 2**20


def packed(*parts: bytes, threads: int | None = None) -> bytes:
    stream = io.BytesIO()
    with GzipWriter(stream, threads=threads) as writer:
        for part in parts:
            writer.write(part)
    return stream.getvalue()


def one_member(data: bytes) -> bytes:
    """What the first member holds, by a reader that knows no second one."""
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    content = reader.decompress(data)
    assert reader.eof
    assert not reader.unused_data
    return content


@pytest.mark.parametrize("threads", [None, 1, 3])
@pytest.mark.parametrize("size", [0, 1, 1000, MIB - 1, MIB, MIB + 1, 5 * MIB + 7])
def test_what_is_written_comes_back_as_one_member(size: int, threads: int | None) -> None:
    content = np.random.default_rng(size).integers(0, 20, size, np.uint8).tobytes()
    step = 300_001
    parts = [content[k : k + step] for k in range(0, size, step)]
    data = packed(*parts, threads=threads)
    assert gzip.decompress(data) == one_member(data) == content


def test_any_number_of_threads_makes_the_same_bytes() -> None:
    content = np.random.default_rng(0).integers(0, 9, 9 * MIB, np.uint8).tobytes()
    parts = [content[k : k + MIB] for k in range(0, len(content), MIB)]
    assert packed(*parts, threads=1) == packed(*parts, threads=4)


def test_it_packs_as_well_as_in_one_piece() -> None:
    ramp = np.arange(4 * MIB // 2, dtype="<i2") // 50
    noise = np.random.default_rng(0).integers(0, 12, ramp.shape, dtype="<i2")
    content = (ramp + noise).tobytes()
    assert len(packed(content)) < 1.01 * len(gzip.compress(content, 1))


def test_an_error_leaves_no_finished_member() -> None:
    stream = io.BytesIO()

    def fail() -> None:
        with GzipWriter(stream) as writer:
            writer.write(bytes(3 * MIB))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(EOFError):
        gzip.decompress(stream.getvalue())
