"""The Journal Export Format, whole, in pieces of every size, and broken."""

from __future__ import annotations

import pytest

from rkt.cli import logs
from rkt.errors import RktError
from rkt.stage0.journal import Entry, ExportParser

FIRST = (
    b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=981173106000001\n"
    b"_SYSTEMD_UNIT=web.service\n_PID=4\nMESSAGE=a=b\n\n"
)
BINARY = b"one\n\n\x1b[31mtwo\0"
SECOND = b"SYSLOG_IDENTIFIER=web\nMESSAGE\n" + len(BINARY).to_bytes(8, "little") + BINARY + b"\n_PID=5\n\n"
PARSED = [
    {
        b"__CURSOR": b"s=1;i=2",
        b"__REALTIME_TIMESTAMP": b"981173106000001",
        b"_SYSTEMD_UNIT": b"web.service",
        b"_PID": b"4",
        b"MESSAGE": b"a=b",
    },
    {b"SYSLOG_IDENTIFIER": b"web", b"MESSAGE": BINARY, b"_PID": b"5"},
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_pieces(size: int) -> None:
    data = FIRST + b"\n" + SECOND
    parser = ExportParser()
    found = [entry for at in range(0, len(data), size) for entry in parser.feed(data[at : at + size])]
    assert found == PARSED


def test_long_values_are_cut() -> None:
    parser = ExportParser()
    parser.feed(b"MESSAGE=")
    for _ in range(100):
        assert parser.feed(b"x" * 10_000) == []
    size = (1 << 20).to_bytes(8, "little")
    found = parser.feed(b"\nOTHER\n" + size + b"y" * (1 << 20) + b"\n\n")
    assert {name: len(value) for entry in found for name, value in entry.items()} == {
        b"MESSAGE": 65536,
        b"OTHER": 65536,
    }


def test_what_is_no_journal() -> None:
    with pytest.raises(RktError, match="no journal"):
        ExportParser().feed(b"x" * 100)
    with pytest.raises(RktError, match="no journal"):
        ExportParser().feed(b"x" * 100 + b"\n")


def test_lines_cannot_be_forged_and_do_not_steer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    entry = Entry(
        {**PARSED[0], b"MESSAGE": b"a\n\x1b]0;t\x07b\tc\xc2\x9b\xff", b"SYSLOG_IDENTIFIER": b"x\ny\x1b"}
    )
    prefix = "2001-02-03T04:05:06+0000 web x�y�[4]: "
    assert logs.show(entry) == [prefix + "a", prefix + "�]0;t�b\tc��"]


@pytest.mark.parametrize(
    ("unit", "app"),
    [("web.service", "web"), ("web_pre-start.service", "web"), ("init_app.service", "init"), ("", "")],
)
def test_app_of_a_unit(unit: str, app: str) -> None:
    assert Entry({b"_SYSTEMD_UNIT": unit.encode()}).app == app


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("10m", "@400.000000"),
        ("1h", "@0.000000"),
        ("2001-02-03T04:05:06Z", "@981173106"),
        ("2001-02-03T04:05:06+02:00", "@981165906"),
        ("yesterday", "yesterday"),
        ("2001-02-03 04:05", "2001-02-03 04:05"),
    ],
)
def test_moments(text: str, expected: str) -> None:
    assert logs.moment(text, 1000.0) == expected
