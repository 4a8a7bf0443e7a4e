"""JSON as Go reads and prints it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rkt.appc import gojson
from rkt.appc.errors import AppcError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        (" \t\r\n true ", True),
        ("-0", 0),
        ("1.50", 1.5),
        ('{"a":1,"a":2}', {"a": 2}),
        ('"\\u00e9\\/\\b"', "é/\b"),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\ud800x\\udfff"', "\ufffdx\ufffd"),
        (b'"\xc3\xa9"', "é"),
        (b'"\xe2\x82"', "\ufffd\ufffd"),
        (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
        ('["\\ud800",{"\\udc00":null}]', ["\ufffd", {"\ufffd": None}]),
    ],
)
def test_read(text: str | bytes, value: Any) -> None:
    assert gojson.loads(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unexpected end"),
        ("{", "line 1, column 2"),
        ("[1,\n 2,]", "line 2, column 4"),
        ("1 2", "line 1, column 3: unexpected '2' after the value"),
        ("\ufeff1", "line 1, column 1"),
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("01", "unexpected '1'"),
        ('"a\nb"', "control character"),
        ('"\\x41"', "escape"),
        ('{"a" 1}', "column 6"),
        ("nul", "unexpected 'n'"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff", "line 1, column 1"),
    ],
)
def test_refuse(text: str | bytes, words: str) -> None:
    with pytest.raises(AppcError, match="invalid JSON") as caught:
        gojson.loads(text)
    assert words in str(caught.value)


def test_pairs_keep_order_duplicates_and_the_text_of_numbers() -> None:
    value = gojson.loads_pairs('{"b":1.0,"a":1e2,"b":[{}],"c":' + "9" * 5000 + "}")
    assert [name for name, _ in value] == ["b", "a", "b", "c"]
    assert [type(item) for _, item in value] == [gojson.Number, gojson.Number, list, gojson.Number]
    assert gojson.dumps(value) == '{"b":1.0,"a":1e2,"b":[{}],"c":' + "9" * 5000 + "}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('a"b\\c\n\r\t', '"a\\"b\\\\c\\n\\r\\t"'),
        ("\b\f\0\x1f\x7f", '"\\u0008\\u000c\\u0000\\u001f\x7f"'),
        ("<a>&\u2028\u2029é", '"\\u003ca\\u003e\\u0026\\u2028\\u2029é"'),
        ("\ud800", '"\ufffd"'),
        ([], "[]"),
        ({}, "{}"),
        ([None, True, False, -3], "[null,true,false,-3]"),
        ({"a": [1, {"b": "c"}]}, '{"a":[1,{"b":"c"}]}'),
        ((1, 2), "[1,2]"),
    ],
)
def test_print(value: Any, text: str) -> None:
    assert gojson.dumps(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (1.5, "1.5"),
        (-123.25, "-123.25"),
        (0.000001, "0.000001"),
        (0.00000125, "0.00000125"),
        (1e-7, "1e-7"),
        (1.25e-9, "1.25e-9"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_print_real_numbers(value: float, text: str) -> None:
    assert gojson.dumps(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_printed(value: float) -> None:
    with pytest.raises(AppcError):
        gojson.dumps(value)


def test_other_types_are_a_defect_of_the_caller() -> None:
    with pytest.raises(TypeError, match="set"):
        gojson.dumps({1})


@pytest.mark.promise("P4")
def test_depth_is_an_error_and_no_defect() -> None:
    for depth in range(100, 1000, 50):
        for text in ("[" * depth + "]" * depth, "[" * depth + '"\\u0041"' + "]" * depth):
            try:
                gojson.dumps(gojson.loads(text))
            except AppcError as error:
                assert "nested too deeply" in str(error)


def test_indent() -> None:
    assert gojson.dumps({"a": [1, []], "b": {}}, "\t") == '{\n\t"a": [\n\t\t1,\n\t\t[]\n\t],\n\t"b": {}\n}'


@pytest.mark.promise("P10")
def test_manifests_cost_no_json_no_re_and_no_enum() -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from rkt.appc.pod import PodManifest\n"
        "from rkt.appc.image import ImageManifest\n"
        "PodManifest().encode()\n"
        "bad = {'json', 're', 'enum', 'typing', 'dataclasses', 'functools', 'decimal', 'fractions'}\n"
        "print(sorted(bad & set(sys.modules)))\n"
    )
    source = gojson.__file__.split("/rkt/appc/")[0]
    done = subprocess.run(
        [sys.executable, "-IS", "-c", code, source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
