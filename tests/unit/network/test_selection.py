"""The grammar of --net and its messages."""

from __future__ import annotations

import pytest

from rkt.errors import RktError
from rkt.network.selection import format_networks, kind, parse_networks


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("default", [("default", "")]),
        ("host", [("host", "")]),
        ("a,b", [("a", ""), ("b", "")]),
        ("a:IP=10.0.0.5", [("a", "IP=10.0.0.5")]),
        ("a:IP=10.0.0.5;MAC=x,none", [("a", "IP=10.0.0.5;MAC=x"), ("none", "")]),
        ("none:x", [("none", "x")]),
        ("a:", [("a", "")]),
        ("a:IP=fd00::5;IP=10.0.0.5,b", [("a", "IP=fd00::5;IP=10.0.0.5"), ("b", "")]),
        ("a:MAC=02:00:00:00:00:01", [("a", "MAC=02:00:00:00:00:01")]),
    ],
)
def test_accepted(text: str, networks: list[tuple[str, str]]) -> None:
    assert parse_networks(text) == networks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "netname must not be empty"),
        ("a,,b", "netname must not be empty"),
        (":x=y", "netname must not be empty"),
        ("a,b,a", 'found duplicate netname "a"'),
        ("a,a:x=y", 'found duplicate netname "a"'),
        ("a:x:y", 'network "a" provided with invalid arguments: [x y]'),
        ("a:x", 'network "a" provided with invalid arguments: [x]'),
        ("a:IP=1:IP=2", 'network "a" provided with invalid arguments: [IP=1 IP=2]'),
        ("a:=x", 'network "a" provided with invalid arguments: [=x]'),
        ("a:IP=1;", 'network "a" provided with invalid arguments: [IP=1;]'),
        ("host:x", 'arguments are not supported by special netname "host"'),
        ("all:x", 'arguments are not supported by special netname "all"'),
        ("a:x=\0", 'network "a" provided with invalid arguments: control characters'),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(RktError) as caught:
        parse_networks(text)
    assert str(caught.value) == message


def test_format_is_the_inverse() -> None:
    text = "b:IP=1.2.3.4;X=y,a,all"
    assert format_networks(parse_networks(text)) == text
    assert format_networks([]) == "default"


def test_host_wins_over_none_and_none_over_the_rest() -> None:
    assert kind(parse_networks("a,none,host")) == "host"
    assert kind(parse_networks("a,none")) == "none"
    assert kind(parse_networks("a,all")) == "contained"
