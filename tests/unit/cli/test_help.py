"""Usage texts."""

from __future__ import annotations

import pytest

from rkt.cli import options
from rkt.cli.grammar import group
from rkt.cli.help import usage, wrap


def sections(text: str) -> list[str]:
    return [
        line for line in text.splitlines() if line.endswith(":") and line == line.upper() and line[0] != "\t"
    ]


def entry(path: str) -> options.Entry:
    (found,) = (candidate for candidate in options.COMMANDS if candidate.path == path)
    return found


def test_sections_of_the_program() -> None:
    text = usage(options.ROOT)
    expected = ["NAME:", "USAGE:", "VERSION:", "COMMANDS:", "DESCRIPTION:", "OPTIONS:"]
    assert sections(text) == expected
    assert "\timage cat-manifest\t" in text
    assert "image fetch" not in text
    assert "cpuprofile" not in text


@pytest.mark.parametrize("path", [entry.path for entry in options.COMMANDS if entry.module])
def test_sections_of_a_command(path: str) -> None:
    command = options.load(entry(path))
    text = usage(command)
    assert sections(text) == ["NAME:", "USAGE:", "DESCRIPTION:", "OPTIONS:", "GLOBAL OPTIONS:"]
    assert f"\trkt {path}" in text
    for option in command.options:
        assert (f" --{option.name}=" in text or f" --{option.name}[=" in text) is option.shown


def test_group() -> None:
    text = usage(group(entry("image")))
    assert sections(text) == ["NAME:", "USAGE:", "COMMANDS:", "OPTIONS:", "GLOBAL OPTIONS:"]
    assert "\tcat-manifest\t" in text
    assert "\tfetch\t" not in text


def test_how_options_are_spelt() -> None:
    assert "    --dir=/var/lib/rkt\t" in usage(options.ROOT)
    assert "    --debug[=false]\t" in usage(options.ROOT)
    assert '    --hostname=""\t' in usage(options.load(entry("run")))
    assert "    --net[=default]\t" in usage(options.load(entry("run")))
    assert '    --wait[="false"]\t' in usage(options.load(entry("status")))
    assert "    --grace-period=30m0s\t" in usage(options.load(entry("gc")))


def test_wrap() -> None:
    text = "word " * 40 + "end\n\n    as it is     here"
    lines = wrap(text)
    assert max(map(len, lines)) <= 92
    assert lines[-2:] == ["", "    as it is     here"]
    assert " ".join(lines[:-2]).split() == ["word"] * 40 + ["end"]
