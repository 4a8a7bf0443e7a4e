"""Quantities: exact, with the reference's rounding, caps and quirks."""

from __future__ import annotations

import pytest

from rkt.appc.errors import AppcError
from rkt.appc.gojson import Number
from rkt.appc.quantity import BINARY_SI, DECIMAL_SI, Quantity


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("1E", "1E"),
        ("1E3", "1E3"),
        ("+5", "+5"),
        ("05", "05"),
        ("1.500", "1.500"),
        ("1.5", "1500m"),
        ("10M", "10M"),
        ("1000M", "1G"),
        ("1025Ki", "1025Ki"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("512", "512"),
        ("8Ki", "8Ki"),
        (".", "0"),
        ("-", "0"),
        ("+", "0"),
        ("k", "0"),
        ("e3", "0"),
        ("0e-20", "0"),
        ("1e-20", "1e-9"),
        ("-0.9n", "-1n"),
        ("1000E", "1000E"),
        ("1e100", "10e99"),
        ("9999999999999999999Ki", "9223372036854775807"),
        ("-9Ei", "-9223372036854775807"),
        ("12345678901234567890123", "12345678901234567890123"),
    ],
)
def test_print(text: str, printed: str) -> None:
    assert str(Quantity.parse(text)) == printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1K",
        "1ki",
        "1Kib",
        "1GB",
        "1 G",
        "--1",
        "1e",
        "1e+",
        "e-20",
        "1ee3",
        "1e1.5",
        "0x10",
        "1e1001",
        "1e" + "9" * 700,
        "1" * 641,
        "١",
    ],
)
def test_bad_quantities(text: str) -> None:
    with pytest.raises(AppcError):
        Quantity.parse(text)


def test_json() -> None:
    assert str(Quantity.from_value("\u00a01Gi ")) == "1Gi"
    assert str(Quantity.from_value(5000)) == "5k"
    assert str(Quantity.from_value(Number("1e3"))) == "1e3"
    assert Quantity.from_value(None) == Quantity(0)
    for value in (True, [], {}, "", " ", "\n1"):
        with pytest.raises(AppcError):
            Quantity.from_value(value)
    with pytest.raises(AppcError, match=r"^limit: "):
        Quantity.from_value("x", "limit")


def test_whole_numbers_are_rounded_away_from_zero() -> None:
    assert [Quantity.parse(text).value() for text in ("0.1", "1n", "-0.1", "2", "1Gi")] == [
        1,
        1,
        -1,
        2,
        2**30,
    ]
    assert [Quantity.parse(text).milli_value() for text in ("1", "0.0001", "-1.5")] == [1000, 1, -1500]
    assert Quantity.parse("12E").milli_value() == 12 * 10**21
    assert Quantity.parse("1n").scaled(-12) == 1000


def test_order() -> None:
    assert Quantity.parse("1Ki") > Quantity.parse("1k")
    assert Quantity.parse("1.0") == Quantity.parse("1000m")
    assert hash(Quantity.parse("1.0")) == hash(Quantity.parse("1000m"))
    assert Quantity.parse("1") <= Quantity.of(1)


def test_small_binary_amounts_are_decimal() -> None:
    assert Quantity.parse("0.0001Ki").format == DECIMAL_SI
    assert Quantity.parse("0.5Ki").format == BINARY_SI
    assert str(Quantity.parse("0.5Ki")) == "512"
