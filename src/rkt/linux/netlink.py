"""Questions to the kernel over netlink(7): one request, the bodies of the messages that answer it."""

from __future__ import annotations

import struct
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket

from rkt.linux.failure import os_error

ROUTE = 0
NETFILTER = 12

REQUEST = 0x1
ACKNOWLEDGE = 0x4
DUMP = 0x300
NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = 2
_DONE = 3
_BUFFER = 1 << 18


def ask(protocol: int, kind: int, flags: int, body: bytes, what: str) -> list[bytes]:
    """Send one request and return the messages that answer it, without their headers.

    ``flags`` is ``DUMP`` for all there is, ``ACKNOWLEDGE`` for nothing but success, 0 for one answer.
    Raises the kernel's OSError, which names the operation ``what``.
    """
    found: list[bytes] = []
    connection = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)
    try:
        size = _HEADER.size + len(body)
        connection.send(_HEADER.pack(size, kind, REQUEST | flags, 1, 0) + body)
        while True:
            data = connection.recv(_BUFFER)
            offset = 0
            while offset < len(data):
                length, answer = _HEADER.unpack_from(data, offset)[:2]
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    number = -struct.unpack_from("=i", data, offset + _HEADER.size)[0]
                    if not number:
                        return found
                    raise os_error(number, what)
                found.append(data[offset + _HEADER.size : offset + length])
                offset += (length + 3) & ~3
            if not flags:
                return found
    finally:
        connection.close()


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def attributes(message: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from ``offset`` on by their type, without the flags that say how they are packed."""
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = message[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found
