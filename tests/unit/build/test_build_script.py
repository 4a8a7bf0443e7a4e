"""Scripts of acbuild: lines, words, quotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkt.build.acbuild import script
from rkt.errors import RktError


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  # only a comment", []),
        ("set-name a", ["set-name", "a"]),
        ("a\tb  c", ["a", "b", "c"]),
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        ('a "it\'s" \'say "x"\'', ["a", "it's", 'say "x"']),
        ("a ''", ["a", ""]),
        ("a b\\ c \\# \\\\", ["a", "b c", "#", "\\"]),
        ("a 'x # y' z#comment", ["a", "x # y", "z"]),
        ("a x'y z'w", ["a", "xy zw"]),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert script.split(line) == words


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 'b", "unterminated single quote block"),
        ('a "b', "unterminated double quote block"),
        ("a b\\", "ended with an escape"),
    ],
)
def test_lines_that_do_not_end(line: str, message: str) -> None:
    with pytest.raises(RktError, match=message):
        script.split(line)


def test_lines_are_joined_and_counted() -> None:
    text = "begin\n\n  run a \\\n  b \\\n c # d\nRun --engine=chroot x -y\nset-exec -- -z\n"
    assert script.parse(text) == [
        ["begin"],
        ["run", "--", "a", "b", "c"],
        ["run", "--engine=chroot", "--", "x", "-y"],
        ["set-exec", "--", "-z"],
    ]
    with pytest.raises(RktError, match="line 3"):
        script.parse("begin\n\na \\\n'b\n")
    with pytest.raises(RktError, match="line 2: calling end is unnecessary"):
        script.parse("begin\nEND\n")
    assert script.parse("environment add a b") == [["environment", "add", "a", "b"]]


@given(st.lists(st.text(st.characters(blacklist_characters="\n\r"), min_size=1), min_size=1))
def test_quoted_words_come_back(words: list[str]) -> None:
    line = " ".join("".join("\\" + letter for letter in word) for word in words)
    assert script.split(line) == words


@given(st.text())
def test_any_text_is_words_or_an_error(text: str) -> None:
    try:
        script.parse(text)
    except RktError:
        pass
