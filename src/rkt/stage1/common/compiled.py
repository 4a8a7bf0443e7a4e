"""What an image was given when it was built, so that no pod has to work it out when it starts.

An image is for one architecture, and the lists behind these are part of it.  Run from the source, where
nothing was built, all of it is worked out when it is asked for.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORY = os.path.join(os.path.dirname(__file__), "compiled")


def read(name: str) -> bytes | None:
    """The content built under this name; None when there is none."""
    try:
        with open(os.path.join(DIRECTORY, name), "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        return None


def programs(names: Sequence[str]) -> list[bytes]:
    """The BPF programs built under these names; none unless all were."""
    built = [read(name) for name in names]
    return [program for program in built if program] if all(built) else []
