"""Dates as RFC 3339 writes them and Go 1.19 reads them.

Go's reader takes one-digit hours, a comma before the fraction and any offset of two digits and two
digits; the fraction is lost when a date is printed again.
"""

from __future__ import annotations

from rkt.appc.decode import string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DIGITS = frozenset("0123456789")


class Date:
    """A moment as it was written: the local fields and the offset from UTC in minutes."""

    __slots__ = ("day", "hour", "minute", "month", "offset", "second", "year")

    def __init__(self, fields: tuple[int, int, int], clock: tuple[int, int, int], *, offset: int = 0) -> None:
        self.year, self.month, self.day = fields
        self.hour, self.minute, self.second = clock
        self.offset = offset

    def __str__(self) -> str:
        """RFC 3339, ``Z`` for UTC."""
        return f"{self._day()}T{self._clock()}{self._zone(':') if self.offset else 'Z'}"

    def words(self) -> str:
        """``2001-02-03 04:05:06 +0000``."""
        return f"{self._day()} {self._clock()} {self._zone('')}"

    def _day(self) -> str:
        return f"{self.year:04}-{self.month:02}-{self.day:02}"

    def _clock(self) -> str:
        return f"{self.hour:02}:{self.minute:02}:{self.second:02}"

    def _zone(self, colon: str) -> str:
        hours, minutes = divmod(abs(self.offset), 60)
        return f"{'-' if self.offset < 0 else '+'}{hours:02}{colon}{minutes:02}"


class _Reader:
    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fault(self) -> AppcError:
        return AppcError(f'invalid date "{self.text}": it must be of the form 2006-01-02T15:04:05Z')

    def number(self, digits: int, *, least: int = 0) -> int:
        """A number of ``digits`` digits, or of ``least`` if the next letter is no digit."""
        word = self.text[self.at : self.at + digits]
        if len(word) != digits or not _DIGITS.issuperset(word):
            if not least or not _DIGITS.issuperset(word[:least] or "-"):
                raise self.fault()
            word = word[:least]
        self.at += len(word)
        return int(word)

    def letter(self, wanted: str) -> str:
        letter = self.text[self.at : self.at + 1]
        if not letter or letter not in wanted:
            raise self.fault()
        self.at += 1
        return letter


def parse(text: str) -> Date:
    """Read a date; raises ``AppcError``."""
    reader = _Reader(text)
    year = reader.number(4)
    reader.letter("-")
    month = reader.number(2)
    reader.letter("-")
    day = reader.number(2)
    reader.letter("T")
    hour = reader.number(2, least=1)
    reader.letter(":")
    minute = reader.number(2)
    reader.letter(":")
    second = reader.number(2)
    _skip_fraction(reader)
    offset = 0
    sign = reader.letter("Z+-")
    if sign != "Z":
        hours = reader.number(2)
        reader.letter(":")
        offset = hours * 60 + reader.number(2)
    if reader.at != len(text):
        raise reader.fault()
    if hour > 23 or minute > 59 or second > 59:
        raise AppcError(f'invalid date "{text}": no such time of day')
    if not 1 <= month <= 12 or not 1 <= day <= _days_of(year, month):
        raise AppcError(f'invalid date "{text}": no such day')
    return Date((year, month, day), (hour, minute, second), offset=-offset if sign == "-" else offset)


def _skip_fraction(reader: _Reader) -> None:
    rest = reader.text[reader.at :]
    if rest[:1] in (".", ",") and rest[1:2] in _DIGITS:
        reader.at += 2
        while reader.text[reader.at : reader.at + 1] in _DIGITS:
            reader.at += 1


def _days_of(year: int, month: int) -> int:
    if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        return 29
    return _DAYS[month - 1]


def decode(value: Any) -> Date:
    """A date from parsed JSON."""
    return parse(string(value))
