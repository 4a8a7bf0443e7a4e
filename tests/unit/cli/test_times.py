"""Times, durations and sizes as the original prints them."""

from __future__ import annotations

import time

import pytest

from rkt.cli import times
from rkt.cli.times import SECOND, age, duration, exact, size

NOW = 1_795_454_150 * SECOND


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "now"),
        (1, "1 second ago"),
        (2, "2 seconds ago"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (119, "1 minute ago"),
        (120, "2 minutes ago"),
        (3599, "59 minutes ago"),
        (3600, "1 hour ago"),
        (7200, "2 hours ago"),
        (86399, "23 hours ago"),
        (86400, "1 day ago"),
        (2 * 86400, "2 days ago"),
        (7 * 86400, "1 week ago"),
        (14 * 86400, "2 weeks ago"),
        (30 * 86400, "1 month ago"),
        (60 * 86400, "2 months ago"),
        (359 * 86400, "11 months ago"),
        (360 * 86400, "1 year ago"),
        (539 * 86400, "1 year ago"),
        (540 * 86400, "2 years ago"),
        (720 * 86400, "2 years ago"),
        (36 * 360 * 86400, "36 years ago"),
        (37 * 360 * 86400, "a long while ago"),
        (-1, "1 second from now"),
        (-90, "1 minute from now"),
        (-38 * 360 * 86400, "a long while from now"),
    ],
)
def test_age(seconds: int, words: str) -> None:
    assert age(NOW - seconds * SECOND, NOW) == words


def test_age_compares_whole_seconds() -> None:
    assert age(NOW - 1, NOW) == "1 second ago"
    assert age(NOW, NOW + SECOND - 1) == "now"


def test_no_time_is_long_ago() -> None:
    assert age(None) == "a long while ago"
    assert exact(None) == "0001-01-01 00:00:00 +0000 UTC"
    assert age(time.time_ns() - 5 * SECOND) in {"5 seconds ago", "6 seconds ago"}


@pytest.mark.parametrize(
    ("moment", "zone", "text"),
    [
        (1795454146592812847, "UTC", "2026-11-23 17:15:46.592 +0000 UTC"),
        (1795454146500000000, "UTC", "2026-11-23 17:15:46.5 +0000 UTC"),
        (1795454146000999999, "UTC", "2026-11-23 17:15:46 +0000 UTC"),
        (1795454146999999999, "UTC", "2026-11-23 17:15:46.999 +0000 UTC"),
        (1795454146000000000, "EST5EDT", "2026-11-23 12:15:46 -0500 EST"),
        (1795454146000000000, "<+0545>-5:45", "2026-11-23 23:00:46 +0545 +0545"),
        (-1, "UTC", "1969-12-31 23:59:59.999 +0000 UTC"),
    ],
)
def test_exact(monkeypatch: pytest.MonkeyPatch, moment: int, zone: str, text: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert exact(moment) == text
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (SECOND, "1s"),
        (3_300_000_000, "3.3s"),
        (1800 * SECOND, "30m0s"),
        (86400 * SECOND, "24h0m0s"),
        (3723_500_000_000, "1h2m3.5s"),
        (-60 * SECOND, "-1m0s"),
        (60 * SECOND + 1, "1m0.000000001s"),
    ],
)
def test_duration(nanoseconds: int, text: str) -> None:
    from rkt.cli.values import parse_duration

    assert duration(nanoseconds) == text
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (9, "9B"),
        (10, "10B"),
        (1023, "1023B"),
        (1024, "1.0KiB"),
        (4020470, "3.8MiB"),
        (166628660, "159MiB"),
        (10 << 20, "10MiB"),
        (10433331, "9.9MiB"),
        (10433332, "10MiB"),
        (10380902, "9.9MiB"),
        (1 << 62, "4.0EiB"),
        ((10 << 10) + 512, "10KiB"),
        ((11 << 10) + 512, "12KiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_size_agrees_with_floating_point() -> None:
    """The library computes with floats: the same text below 2**50."""
    import math
    import random

    random.seed(1)
    for _ in range(2000):
        count = random.randrange(10, 1 << random.randrange(5, 50))
        power = math.floor(math.log(count) / math.log(1024))
        value = math.floor(count / 1024**power * 10 + 0.5) / 10
        unit = ("B", "KiB", "MiB", "GiB", "TiB")[power]
        assert times.size(count) == (f"{value:.1f}" if value < 10 else f"{value:.0f}") + unit
