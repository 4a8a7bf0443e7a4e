"""The versions of manifests (specification, "AC Version type"), as the reference reads them.

SemVer 2.0.0 with the reference's laxness: leading zeros and any text after ``-`` and ``+`` pass, and the
version is printed normalised; ``0.0.0`` is no version.
"""

from __future__ import annotations

from rkt.appc.decode import string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INT64_END = 1 << 63


def parse(text: str) -> tuple[int, int, int, str, str]:
    """Major, minor, patch, pre-release and build metadata."""
    rest, _, metadata = text.partition("+")
    numbers, _, release = rest.partition("-")
    parts = numbers.split(".")
    if len(parts) != 3:
        raise AppcError(f"{text!r} is not of the form X.Y.Z")
    values = []
    for part in parts:
        if not (part.isascii() and part.isdigit()) or len(part) > 640 or int(part) >= _INT64_END:
            raise AppcError(f"{text!r} is not a version: {part!r} is not a number")
        values.append(int(part))
    if not any(values) and not release and not metadata:
        raise AppcError("version cannot be zero")
    return values[0], values[1], values[2], release, metadata


def normalise(text: str) -> str:
    """The version as it is printed, ``AppcError`` if it is none."""
    major, minor, patch, release, metadata = parse(text)
    made = f"{major}.{minor}.{patch}"
    if release:
        made += f"-{release}"
    if metadata:
        made += f"+{metadata}"
    return made


def decode(value: Any) -> str:
    """A version from parsed JSON, normalised."""
    return normalise(string(value))
