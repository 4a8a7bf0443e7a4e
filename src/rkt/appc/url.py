"""Addresses as Go's ``net/url`` reads and prints them: only http and https pass."""

from __future__ import annotations

from rkt.appc.decode import string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def check(text: str) -> str:
    """The text if it is an http or https URL, else ``AppcError``."""
    scheme, colon, _ = text.partition(":")
    if not colon or scheme.lower() not in ("http", "https"):
        raise AppcError(f'bad URL scheme, must be http/https: "{text}"')
    return text


def decode(value: Any) -> str:
    """A URL from parsed JSON."""
    return check(string(value))
