"""Resource quantities: ``[+-]digits[.digits]`` and a suffix, exact.

The value is kept in whole billionths: one billionth is the precision floor, smaller parts are rounded
away from zero.  So neither floats nor ``fractions`` are needed.  Source: the quantity type of Kubernetes
as the reference carries it.  Different from it: exponents beyond 1000 and more than 640 digits are
refused (the reference wraps or runs out of memory), and 1000E prints as itself (there: ``1``).
"""

from __future__ import annotations

from rkt.appc.decode import expected
from rkt.appc.errors import AppcError
from rkt.appc.gojson import Number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DECIMAL_SI = "DecimalSI"
BINARY_SI = "BinarySI"
DECIMAL_EXPONENT = "DecimalExponent"

_PLACES = 9
NANO = 10**_PLACES
# Binary quantities are capped here; decimal ones are not.
_LARGEST_BINARY = (1 << 63) - 1
_LONGEST = 640
_LARGEST_EXPONENT = 1000
# Up to this many digits the reference parses without big numbers and then keeps a canonical text.
_FAST_DIGITS = 18
_FAST_BINARY_DIGITS = 14

_DIGITS = frozenset("0123456789")
_SUFFIX_LETTERS = frozenset("eEinumkKMGTP")
_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_LARGEST_DECIMAL_SUFFIX = 18
_BINARY_SUFFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_NAMES = ("", *_BINARY_SUFFIXES)
# The blanks Go's TrimSpace takes that can stand in a JSON string without an escape.
_BLANKS = (
    " \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def split(text: str) -> tuple[bool, str, str, str, str]:
    """Sign (True: not negative), value, whole digits without leading zeros, fraction digits, suffix."""
    positive = not text.startswith("-")
    at = 1 if text[:1] in ("-", "+") else 0
    while text[at : at + 1] == "0":
        at += 1
    if at == len(text):
        return positive, "0", "0", "", ""
    start = at
    at = _after_digits(text, at)
    whole = text[start:at] or "0"
    fraction = ""
    if text[at : at + 1] == ".":
        start = at + 1
        at = _after_digits(text, start)
        fraction = text[start:at]
    value = text[:at]
    start = at
    while at < len(text) and text[at] in _SUFFIX_LETTERS:
        at += 1
    if text[at : at + 1] in ("-", "+"):
        at += 1
    if _after_digits(text, at) != len(text):
        raise AppcError(
            f'"{text}" is no quantity: it needs a number and one of the suffixes n u m k M G T P E, Ki to Ei'
        )
    return positive, value, whole, fraction, text[start:]


def _after_digits(text: str, at: int) -> int:
    while at < len(text) and text[at] in _DIGITS:
        at += 1
    return at


def _interpret(suffix: str, text: str) -> tuple[int, str]:
    """The exponent of a suffix and the format it stands for."""
    exponent = _DECIMAL_SUFFIXES.get(suffix)
    if exponent is not None:
        return exponent, DECIMAL_SI
    exponent = _BINARY_SUFFIXES.get(suffix)
    if exponent is not None:
        return exponent, BINARY_SI
    digits = suffix[2:] if suffix[1:2] in ("+", "-") else suffix[1:]
    if suffix[0] not in "eE" or not digits or not _DIGITS.issuperset(digits):
        raise AppcError(f'unable to parse suffix "{suffix}" of quantity "{text}"')
    if len(digits) > _LONGEST or int(digits) > _LARGEST_EXPONENT:
        raise AppcError(f'exponent of quantity "{text}" is out of range')
    return (-int(digits) if suffix[1] == "-" else int(digits)), DECIMAL_EXPONENT


def _divide_up(value: int, divisor: int) -> tuple[int, bool]:
    """A positive quotient rounded up, and whether it is exact."""
    quotient, rest = divmod(value, divisor)
    return (quotient + 1, False) if rest else (quotient, True)


def _power(exponent: int) -> int:
    """Ten to a power that is not negative."""
    made: int = 10**exponent
    return made


class Quantity:
    """An exact amount of a resource and the family of suffixes it was written in."""

    __slots__ = ("format", "nanos", "text")

    def __init__(self, nanos: int, format: str = DECIMAL_SI, text: str = "") -> None:
        self.nanos = nanos
        self.format = format
        # the text it was read from, where the reference prints that again
        self.text = text

    @classmethod
    def of(cls, value: int) -> Quantity:
        """A whole number in decimal format."""
        return cls(value * NANO)

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """Read a quantity; raises ``AppcError``."""
        if not text:
            raise AppcError("quantity must not be empty")
        positive, value, whole, fraction, suffix = split(text)
        if len(text) > _LONGEST:
            raise AppcError("quantity has too many digits")
        exponent, format = _interpret(suffix, text)
        digits = whole + fraction
        if format == BINARY_SI:
            nanos, _ = _divide_up((int(digits) << exponent) * NANO, 10 ** len(fraction))
            nanos = min(nanos, _LARGEST_BINARY * NANO)
            if 0 < nanos < NANO:
                format = DECIMAL_SI
            fast = not fraction and len(whole) + exponent * 3 // 10 <= _FAST_BINARY_DIGITS
            kept = fast and int(whole) & 7 != 0
        else:
            places = exponent - len(fraction)
            nanos = int(digits) * 10 ** max(places + _PLACES, 0)
            if places < -_PLACES:
                nanos, _ = _divide_up(nanos, 10 ** -(places + _PLACES))
            fast = len(digits) <= _FAST_DIGITS and places >= -_PLACES
            kept = fast and places % 3 == 0 and not digits.endswith("000") and digits[0] != "0"
        if not fast and not _DIGITS.intersection(value):
            raise AppcError(f'unable to parse numeric part of quantity "{text}"')
        return cls(nanos if positive else -nanos, format, text if kept else "")

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Quantity:
        """From parsed JSON: a string (trimmed) or a number; null is zero."""
        try:
            if value is None:
                return cls(0, "")
            if isinstance(value, str):
                return cls.parse(str(value) if isinstance(value, Number) else value.strip(_BLANKS))
            if isinstance(value, int) and not isinstance(value, bool):
                return cls.parse(str(value))
            raise expected("string or number", value)
        except AppcError as error:
            if path:
                error.under(path)
            raise

    def to_value(self) -> str:
        return str(self)

    def __str__(self) -> str:
        """The text it was read from if that was canonical, else the canonical text."""
        return self.text or self.canonical()

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nanos == other.nanos

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __le__(self, other: Quantity) -> bool:
        return self.nanos <= other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def canonical(self) -> str:
        """No fraction digits and the largest suffix of the same family; binary falls back to decimal."""
        if self.nanos == 0:
            return "0"
        sign = "-" if self.nanos < 0 else ""
        amount = abs(self.nanos)
        if self.format == BINARY_SI and amount >= 1024 * NANO and amount % NANO == 0:
            amount //= NANO
            power = 0
            while amount % 1024 == 0:
                amount //= 1024
                power += 1
            return f"{sign}{amount}{_BINARY_NAMES[power]}"
        exponent = -_PLACES
        largest = _LARGEST_DECIMAL_SUFFIX if self.format in (DECIMAL_SI, BINARY_SI) else 2 * _LARGEST_EXPONENT
        while amount % 1000 == 0 and exponent < largest:
            amount //= 1000
            exponent += 3
        if self.format in (DECIMAL_SI, BINARY_SI):
            return f"{sign}{amount}{_DECIMAL_NAMES[exponent]}"
        return f"{sign}{amount}e{exponent}" if exponent else f"{sign}{amount}"

    def decimal(self) -> str:
        """The value in plain decimal digits, as few as it needs."""
        whole, rest = divmod(abs(self.nanos), NANO)
        text = f"{whole}.{rest:0{_PLACES}}".rstrip("0") if rest else str(whole)
        return f"-{text}" if self.nanos < 0 else text

    def scaled(self, scale: int) -> int:
        """The value in units of ``10**scale``, rounded away from zero."""
        shift = scale + _PLACES
        if shift <= 0:
            return self.nanos * _power(-shift)
        return self.round_up(scale)[0].nanos // _power(shift)

    def value(self) -> int:
        """The whole number at or above the value (away from zero)."""
        return self.scaled(0)

    def milli_value(self) -> int:
        """The value in thousandths, rounded away from zero."""
        return self.scaled(-3)

    def round_up(self, scale: int) -> tuple[Quantity, bool]:
        """The multiple of ``10**scale`` next to the value away from zero, and whether that is the value."""
        if scale <= -_PLACES:
            return self, True
        step = _power(scale + _PLACES)
        count, exact = _divide_up(abs(self.nanos), step)
        if exact:
            return self, True
        return Quantity(count * step if self.nanos > 0 else -count * step, self.format), False
