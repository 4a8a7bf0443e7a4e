"""Pod UUIDs (RFC 4122): read as the reference does, made from the kernel's random numbers."""

from __future__ import annotations

import os

from rkt.appc.decode import string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEX = frozenset("0123456789abcdefABCDEF")
_ZERO = "0" * 32


def parse(text: str) -> str:
    """The canonical form, 8-4-4-4-12 lower-case hex digits; dashes may stand anywhere in ``text``."""
    digits = text.replace("-", "")
    if len(digits) != 32 or not _HEX.issuperset(digits):
        raise AppcError(f"invalid UUID {text!r}: it needs 32 hexadecimal digits")
    return _format(digits.lower())


def _format(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def generate() -> str:
    """A new random UUID (version 4, variant 1)."""
    value = bytearray(os.urandom(16))
    value[6] = value[6] & 0x0F | 0x40
    value[8] = value[8] & 0x3F | 0x80
    return _format(value.hex())


def decode(value: Any) -> str:
    """A UUID from parsed JSON; the one of zeros only is refused there."""
    made = parse(string(value))
    if made.replace("-", "") == _ZERO:
        raise AppcError("UUID cannot be empty")
    return made
