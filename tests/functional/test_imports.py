"""What a command imports is what it costs to start: the sets are fixed here, module by module."""

from __future__ import annotations

import os
import subprocess

import pytest

from support.driver import RKT

pytestmark = pytest.mark.promise("P10")

HEAVY = frozenset(
    "typing dataclasses logging subprocess pathlib asyncio argparse enum re contextlib json functools shutil "
    "tempfile inspect email http ssl urllib hashlib sqlite3 socket ctypes collections traceback warnings "
    "importlib.util".split()
)
START = {
    "rkt",
    "rkt.cli",
    "rkt.cli.main",
    "rkt.cli.grammar",
    "rkt.cli.options",
    "rkt.cli.call",
    "rkt.errors",
}


def imported(*words: str) -> set[str]:
    """The modules a command imports beyond those of the bare interpreter."""

    def modules(argv: list[str]) -> set[str]:
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-S", "-X", "importtime", *argv],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines}

    return modules([RKT, *words]) - modules(["-c", "import os, gc"]) - {"__future__"}


def own(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "rkt"}


@pytest.fixture
def directory(tmp_path: os.PathLike[str]) -> str:
    return f"--dir={os.fspath(tmp_path)}/data"


def test_version() -> None:
    modules = imported("version")
    assert own(modules) == START | {"rkt.cli.version", "rkt.cli.options_tool"}
    assert modules == own(modules)


def test_help() -> None:
    modules = imported("help")
    expected = {"rkt.cli.help", "rkt.cli.help_command", "rkt.cli.table", "rkt.cli.options_tool"}
    assert own(modules) == START | expected
    assert modules == own(modules)


def test_help_on_a_command_and_a_wrong_flag() -> None:
    assert not HEAVY & imported("help", "run")
    assert not HEAVY & imported("list", "--bogus")
    assert not HEAVY & imported("completion", "bash")


def test_config(directory: str) -> None:
    assert not HEAVY & imported("config", directory)
