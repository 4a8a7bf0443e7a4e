"""gzip written in blocks, read by everybody else."""

from __future__ import annotations

import gzip
import io
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkt.store import compression
from rkt.store.gzip_writer import GzipWriter


def packed(data: bytes, piece: int = 1 << 16) -> bytes:
    target = io.BytesIO()
    writer = GzipWriter(target)
    try:
        for start in range(0, len(data), piece):
            writer.write(data[start : start + piece])
        writer.finish()
    finally:
        writer.close()
    return target.getvalue()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_others_read_it(size: int) -> None:
    data = (os.urandom(999) + bytes(5000) + b"text " * 2000) * (size // 16000 + 1)
    data = data[:size]
    made = packed(data)
    assert gzip.decompress(made) == data
    done = subprocess.run(["gzip", "-dc"], input=made, capture_output=True, check=True)
    assert done.stdout == data
    reader = compression.open_reader(io.BytesIO(made))
    parts = []
    while part := reader.read(1 << 20):
        parts.append(part)
    assert b"".join(parts) == data


def test_the_same_bytes_however_it_is_cut_and_on_one_core() -> None:
    data = b"".join(b"%d " % number for number in range(600_000))
    before = os.sched_getaffinity(0)
    made = packed(data)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert packed(data, 1000) == made
    finally:
        os.sched_setaffinity(0, before)
    # matches reach over the blocks' borders: hardly larger than one stream
    assert len(made) < len(gzip.compress(data, 6)) * 1.02


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=100_000), max_size=8))
def test_any_pieces(pieces: list[bytes]) -> None:
    target = io.BytesIO()
    writer = GzipWriter(target)
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    writer.close()
    assert gzip.decompress(target.getvalue()) == b"".join(pieces)
