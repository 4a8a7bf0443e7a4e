"""What becomes of an exception: text, stream, exit code."""

from __future__ import annotations

import errno

import pytest

from rkt.cli.grammar import parse
from rkt.cli.output import quote, report
from rkt.cli.suggest import distance, similar
from rkt.errors import RktError


def chained() -> RktError:
    try:
        try:
            try:
                raise OSError(errno.ENOENT, "No such file or directory", "/x")
            except OSError as error:
                raise RktError("cannot read image") from error
        except RktError as error:
            raise RktError("cannot prepare pod", hint="fetch it first") from error
    except RktError as error:
        return error


def test_outermost_and_innermost_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(chained(), parse(["image", "list"]), []) == 254
    assert capsys.readouterr().err == (
        "list: cannot prepare pod: open /x: no such file or directory\nlist: fetch it first\n"
    )


def test_debug_prints_the_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(chained(), parse(["run", "--debug"]), []) == 254
    assert capsys.readouterr().err == (
        "run: cannot prepare pod\n"
        "run:   └─cannot read image\n"
        "run:     └─open /x: no such file or directory\n"
        "run: fetch it first\n"
    )


def test_a_defect_is_one_line_without_debug(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ValueError("two\nlines"), parse(["list"]), []) == 254
    assert capsys.readouterr().err == "list: internal error: ValueError: two lines (--debug prints where)\n"


def test_a_defect_with_debug_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("here")
    except ValueError as error:
        assert report(error, None, ["--debug"]) == 254
    printed = capsys.readouterr().err
    assert "test_output.py" in printed
    assert printed.endswith("rkt: internal error: ValueError: here\n")


def test_signals_have_the_codes_of_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyboardInterrupt(), None, []) == 130
    assert report(BrokenPipeError(errno.EPIPE, "Broken pipe"), None, []) == 141
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\n\t\r\a\b\f\v", '"\\n\\t\\r\\a\\b\\f\\v"'),
        ("\x00\x1b\x7f", '"\\x00\\x1b\\x7f"'),
        ("über 世界", '"über 世界"'),
        ("\udcff", '"\\xff"'),
        ("\u200b\U000e0001", '"\\u200b\\U000e0001"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_similar() -> None:
    names = ["list", "gc", "rm", "run", "status", "stop"]
    assert similar("lst", names) == ["list"]
    assert similar("STATSU", names) == ["status"]
    assert similar("st", names) == ["status", "stop"]
    assert similar("frobnicate", names) == []


def test_distance() -> None:
    assert distance("kitten", "sitting") == 3
    assert distance("", "abc") == 3
    assert distance("abc", "abc") == 0
