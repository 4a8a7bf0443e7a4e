"""The tables of docs/guarantees.md and the markers of the tests name the same things."""

from __future__ import annotations

import os
import re

from support.driver import ROOT


def in_tests(marker: str) -> set[str]:
    found: set[str] = set()
    for top, _, names in os.walk(os.path.join(ROOT, "tests")):
        for name in names:
            if name.startswith("test_") and name.endswith(".py"):
                with open(os.path.join(top, name)) as file:
                    found.update(re.findall(rf'mark\.{marker}\("?(\w+)"?\)', file.read()))
    return found


def in_table(pattern: str) -> set[str]:
    with open(os.path.join(ROOT, "docs", "guarantees.md")) as file:
        return set(re.findall(rf"^\| ({pattern}) \|", file.read(), re.MULTILINE))


def test_every_attack_has_a_test() -> None:
    assert in_table("[0-9]+") == in_tests("attack")
    assert len(in_table("[0-9]+")) >= 18


def test_every_promise_has_a_test() -> None:
    assert in_table("P[0-9]+") >= in_tests("promise")
    assert {f"P{number}" for number in range(1, 12)} == in_table("P[0-9]+")
