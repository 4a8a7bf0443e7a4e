"""Every fuzzer with a fixed number of inputs, the same ones each time; and all that fuzzers ever found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fuzz.targets import TARGETS

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = os.path.join(os.path.dirname(HERE), "data", "fuzz")
ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}

pytestmark = pytest.mark.promise("P4")


def cases() -> list[str]:
    return sorted(
        os.path.join(target, name) for target in os.listdir(CASES) for name in os.listdir(f"{CASES}/{target}")
    )


@pytest.mark.parametrize("case", cases())
def test_what_was_found_once(case: str) -> None:
    with open(os.path.join(CASES, case), "rb") as file:
        TARGETS[os.path.dirname(case)](file.read())


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_well_formed(name: str) -> None:
    """A fuzzer whose seeds are refused begins with nothing."""
    target = TARGETS[name]
    accepted = 0
    for seed in target.seeds():
        try:
            target.run(seed)
        except target.refusals:
            continue
        accepted += 1
    assert accepted


@pytest.mark.parametrize("name", TARGETS)
def test_fixed_number_of_inputs(name: str, tmp_path: os.PathLike[str]) -> None:
    findings = os.fspath(tmp_path)
    argv = [sys.executable, os.path.join(HERE, "run.py"), name, f"--findings={findings}"]
    done = subprocess.run(argv, capture_output=True, timeout=250, env=ENVIRONMENT, check=False)
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    found = [os.path.join(findings, one) for one in os.listdir(findings)]
    shown = "\n".join(line for line in said.splitlines() if not line.startswith(("#", "INFO")))[-6000:]
    assert done.returncode == 0, f"{shown}\n{[(one, open(one, 'rb').read()) for one in found]}"
    assert f"Done {TARGETS[name].runs} runs" in said, shown
