"""Times, durations and sizes as rkt prints them: humanised like go-humanize, exact like Go's layouts."""

from __future__ import annotations

import time

SECOND = 1_000_000_000
MINUTE, HOUR, DAY = 60, 3600, 86400
WEEK, MONTH = 7 * DAY, 30 * DAY
YEAR = 12 * MONTH
LONG = 37 * YEAR

AGES = (
    (1, "now", 1),
    (2, "1 second {}", 1),
    (MINUTE, "{n} seconds {}", 1),
    (2 * MINUTE, "1 minute {}", 1),
    (HOUR, "{n} minutes {}", MINUTE),
    (2 * HOUR, "1 hour {}", 1),
    (DAY, "{n} hours {}", HOUR),
    (2 * DAY, "1 day {}", 1),
    (WEEK, "{n} days {}", DAY),
    (2 * WEEK, "1 week {}", 1),
    (MONTH, "{n} weeks {}", WEEK),
    (2 * MONTH, "1 month {}", 1),
    (YEAR, "{n} months {}", MONTH),
    (18 * MONTH, "1 year {}", 1),
    (2 * YEAR, "2 years {}", 1),
    (LONG, "{n} years {}", YEAR),
)
"""Below so many seconds it is called this; the number is in units of so many seconds."""


def age(moment: int | None, now: int | None = None) -> str:
    """How long ago a time was, in words; both in nanoseconds since 1970, None is Go's zero time.

    >>> age(0, 90 * SECOND)
    '1 minute ago'
    """
    if moment is None:
        return "a long while ago"
    if now is None:
        now = time.time_ns()
    # Whole seconds of both times are compared, as the library does.
    seconds = now // SECOND - moment // SECOND
    suffix = "ago" if seconds >= 0 else "from now"
    seconds = abs(seconds)
    for limit, words, unit in AGES:
        if seconds < limit:
            return words.format(suffix, n=seconds // unit)
    return f"a long while {suffix}"


def exact(moment: int | None) -> str:
    """The layout ``2006-01-02 15:04:05.999 -0700 MST`` in local time; nanoseconds, None is Go's zero time.

    Milliseconds are cut, not rounded, and lose their trailing zeros.
    """
    if moment is None:
        return "0001-01-01 00:00:00 +0000 UTC"
    seconds, rest = divmod(moment, SECOND)
    local = time.localtime(seconds)
    fraction = f".{rest // 1_000_000:03d}".rstrip("0").rstrip(".")
    offset = abs(local.tm_gmtoff) // 60
    sign = "-" if local.tm_gmtoff < 0 else "+"
    return (
        f"{local.tm_year:04d}-{local.tm_mon:02d}-{local.tm_mday:02d} "
        f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}{fraction} "
        f"{sign}{offset // 60:02d}{offset % 60:02d} {local.tm_zone}"
    )


def duration(nanoseconds: int) -> str:
    """A duration as Go prints it: ``30m0s``, ``1.5s``, ``10ms``, ``0s``."""
    if nanoseconds < 0:
        return "-" + duration(-nanoseconds)
    if nanoseconds < SECOND:
        for unit, scale in (("ms", 1_000_000), ("µs", 1000), ("ns", 1)):
            if nanoseconds >= scale:
                return decimal(nanoseconds, scale) + unit
        return "0s"
    minutes, rest = divmod(nanoseconds, MINUTE * SECOND)
    text = decimal(rest, SECOND) + "s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return text


def decimal(value: int, scale: int) -> str:
    """``value / scale`` without trailing zeros; the scale is a power of ten."""
    whole, rest = divmod(value, scale)
    digits = f"{rest:0{len(str(scale)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def size(count: int) -> str:
    """Bytes with an IEC unit: ``159MiB``, one decimal below ten (``3.8MiB``)."""
    if count < 10:
        return f"{count}B"
    power = (count.bit_length() - 1) // 10
    # Tenths, rounded half up, in whole numbers.
    tenths = (count * 20 + (1 << (10 * power))) // (2 << (10 * power))
    unit = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")[power]
    if tenths < 100:
        return f"{tenths // 10}.{tenths % 10}{unit}"
    return f"{round_half_even(tenths)}{unit}"


def round_half_even(tenths: int) -> int:
    """Tenths to whole numbers as C's ``%.0f`` rounds."""
    whole, rest = divmod(tenths, 10)
    if rest > 5 or (rest == 5 and whole % 2):
        return whole + 1
    return whole
