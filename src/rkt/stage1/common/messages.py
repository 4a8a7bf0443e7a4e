"""What an entry point says to whoever started it, on standard error."""

from __future__ import annotations

import os


def say(text: str) -> None:
    """Lines, in one write.  A standard error that is closed, or full, is no reason for a pod not to run."""
    try:
        os.write(2, (text + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def note(line: str) -> None:
    """Say something of stage1's own."""
    say(f"stage1: {line}")
