"""Digests of content, ``ALGORITHM:HEX`` (OCI image specification, "Descriptors"), and checking them."""

from __future__ import annotations

import hashlib

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.store.compression import Readable

_LENGTHS = {"sha256": 64, "sha512": 128}
ALGORITHMS = tuple(_LENGTHS)
"""The two that the specification registers; nothing else says what content is."""
_HEX = frozenset("0123456789abcdef")


def check(text: str) -> str:
    """The digest itself; RktError for another algorithm, another length, upper case letters."""
    algorithm, colon, digits = text.partition(":")
    if not colon or algorithm not in _LENGTHS:
        raise RktError(f'digest "{text[:200]}" is not of a supported kind (sha256 or sha512)')
    if len(digits) != _LENGTHS[algorithm] or set(digits) - _HEX:
        raise RktError(f'digest "{text[:200]}" is not valid')
    return text


def is_valid(text: str) -> bool:
    """Whether ``check`` takes it."""
    try:
        check(text)
    except RktError:
        return False
    return True


def of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def verify(data: bytes, expected: str, what: str) -> None:
    """Raises RktError unless ``data`` has the digest."""
    found = of(data, expected.partition(":")[0])
    if found != expected:
        raise RktError(f"{what} has the digest {found} instead of {expected}")


class CheckedReader:
    """A readable whose bytes are counted and hashed on the way; at the end they have to be the right ones.

    ``read`` raises RktError as soon as there are more than ``size`` bytes, and at the end when there were
    fewer or the digest differs: whoever has read to the end without an error has read the content.
    """

    __slots__ = ("_expected", "_hash", "_left", "_size", "_source", "_what")

    def __init__(self, source: Readable, expected: str, size: int, what: str) -> None:
        self._source = source
        self._expected = expected
        self._size = self._left = size
        self._hash = hashlib.new(expected.partition(":")[0])
        self._what = what

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        if data:
            self._left -= len(data)
            if self._left < 0:
                raise RktError(f"{self._what} has more than the {self._size} bytes it should have")
            self._hash.update(data)
        else:
            self._finish()
        return data

    def _finish(self) -> None:
        if self._left:
            raise RktError(f"{self._what} has {self._size - self._left} bytes instead of {self._size}")
        found = f"{self._expected.partition(':')[0]}:{self._hash.hexdigest()}"
        if found != self._expected:
            raise RktError(f"{self._what} has the digest {found} instead of {self._expected}")
