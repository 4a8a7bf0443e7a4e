"""The kinds of manifests."""

from __future__ import annotations

from rkt.appc.decode import string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IMAGE = "ImageManifest"
POD = "PodManifest"


def check(text: str) -> str:
    """The text if it is a kind of manifest, else ``AppcError``."""
    if text in (IMAGE, POD):
        return text
    if not text:
        raise AppcError("ACKind must be set")
    raise AppcError(f'bad ACKind: "{text}" (must be one of: {IMAGE}, {POD})')


def decode(value: Any) -> str:
    """A kind from parsed JSON."""
    return check(string(value))


def require(got: str, wanted: str) -> None:
    """A fault unless a manifest is of the kind wanted."""
    if got != wanted:
        raise AppcError(f'bad ACKind: "{got}" (must be "{wanted}")', "acKind")
