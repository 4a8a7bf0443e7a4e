"""The shared cases of the specification: 669 inputs with the reference's verdict on each."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from typing import Any

import pytest

import appc_cases

_FILE = os.path.join(os.path.dirname(__file__), "..", "..", "data", "appc-cases.json")
with open(_FILE, encoding="utf-8") as file:
    CASES: list[dict[str, Any]] = json.load(file)

_CLASSES = {
    "empty": "cannot be empty",
    "char": "must contain only",
    "edge": "must start and end",
}


def _name(case: dict[str, Any]) -> str:
    return f"{case['kind']}-{json.dumps(case['input'])[:60]}"


def test_there_are_all_of_them() -> None:
    assert len(CASES) == 669


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_case(case: dict[str, Any]) -> None:
    valid, value = appc_cases.verdict(case["kind"], case["input"])
    assert valid == case["valid"]
    if "expect" not in case:
        assert (value is not None) == valid
    elif valid:
        assert value is not None
        assert _comparable(value) == _comparable(case["expect"])
    else:
        assert value is None
        _check_refusal(case)


def _check_refusal(case: dict[str, Any]) -> None:
    """What is expected of some refused inputs: words of the error, or what was found all the same."""
    expect = case["expect"]
    if case["kind"] == "Discovery-endpoints":
        assert appc_cases.discovered(case["input"]) == expect
    elif case["kind"] == "Annotations-get":
        assert expect == ""
    elif "errorClass" in expect:
        assert _CLASSES[expect["errorClass"]] in appc_cases.fault(case["kind"], case["input"])
    else:
        assert appc_cases.fault(case["kind"], case["input"]).startswith(expect["errorPrefix"])


def _comparable(value: Any) -> Any:
    """Decimal digits by their value: the cases write 0.100 where the shortest form is 0.1."""
    if isinstance(value, dict) and "decimal" in value:
        return {**value, "decimal": Decimal(value["decimal"])}
    return value


@pytest.mark.parametrize("sign", ["-", "+"])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case["kind"] == "Quantity" and case["valid"]], ids=_name
)
def test_quantities_with_a_sign(case: dict[str, Any], sign: str) -> None:
    valid, value = appc_cases.verdict("Quantity", sign + case["input"])
    expected = Decimal(case["expect"]["decimal"])
    assert valid
    assert Decimal(value["decimal"]) == (-expected if sign == "-" else expected)
    if expected:
        assert value["canonical"] == ("-" if sign == "-" else "") + case["expect"]["canonical"]
    assert value["format"] == case["expect"]["format"]
