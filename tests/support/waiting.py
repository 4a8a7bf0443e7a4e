"""Waiting for what other processes do, on a machine that may be slow and busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 120.0
"""Seconds after which what has not happened is taken for what never will."""
Found = TypeVar("Found")


def until(ready: Callable[[], Found], what: str = "it did not happen", *, pause: float = 0.02) -> Found:
    """Ask until the answer is true, and return it; a test fails with ``what`` when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what}, after {PATIENCE:.0f} s"
        time.sleep(pause)
    return found
