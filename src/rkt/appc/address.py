"""IP addresses as Go's ``net.ParseIP`` reads and prints them."""

from __future__ import annotations

import _socket

from rkt.appc.errors import AppcError

_MAPPED = b"\0" * 10 + b"\xff\xff"


def parse(text: str) -> str:
    """The canonical text of an IPv4 or IPv6 address (an IPv4-mapped one as IPv4), else ``AppcError``."""
    try:
        if ":" not in text:
            return ".".join(map(str, _socket.inet_pton(_socket.AF_INET, text)))
        packed = _socket.inet_pton(_socket.AF_INET6, text)
    except (OSError, ValueError):
        raise AppcError(f'invalid IP address: "{text}"') from None
    if packed.startswith(_MAPPED):
        return ".".join(map(str, packed[12:]))
    return _format(packed)


def _format(packed: bytes) -> str:
    """Sixteen bytes, the first longest run of at least two zero groups shortened (RFC 5952)."""
    groups = [packed[at] << 8 | packed[at + 1] for at in range(0, 16, 2)]
    start, length = 0, 1
    at = 0
    while at < 8:
        end = at
        while end < 8 and groups[end] == 0:
            end += 1
        if end - at > length:
            start, length = at, end - at
        at = end + 1
    words = [f"{group:x}" for group in groups]
    if length == 1:
        return ":".join(words)
    return ":".join(words[:start]) + "::" + ":".join(words[start + length :])
