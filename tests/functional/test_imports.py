"""What a command imports is what it costs to start: the sets are fixed here, module by module."""

from __future__ import annotations

import os
import subprocess

import pytest

from support.driver import RKT, ROOT, Rkt

pytestmark = pytest.mark.promise("P10")

HEAVY = frozenset(
    "typing dataclasses logging subprocess pathlib asyncio argparse enum re contextlib json functools shutil "
    "tempfile inspect email http ssl urllib hashlib sqlite3 socket ctypes collections traceback warnings "
    "importlib.util".split()
)
SOURCE = os.path.join(ROOT, "src")
START = {
    "rkt",
    "rkt.bundle",
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


LIST = START | {
    *("rkt.cli.list", "rkt.cli.options_pods", "rkt.cli.output", "rkt.cli.pods", "rkt.cli.table"),
    *("rkt.cli.times", "rkt.cli.values"),
    *("rkt.pod", "rkt.pod.layout", "rkt.pod.lookup", "rkt.pod.pod", "rkt.pod.state", "rkt.pod.status"),
    *("rkt.linux", "rkt.linux.failure", "rkt.linux.files", "rkt.linux.lock"),
    *("rkt.appc", "rkt.appc.errors", "rkt.appc.gojson"),
}
RUN = frozenset(
    # The index of the store; the digest a tree is named by.
    "_sqlite3 _sha512 binascii "
    # System calls, and what ctypes brings along.
    "ctypes ctypes._endian _ctypes struct _struct functools _functools collections _collections types "
    "operator _operator keyword reprlib itertools fcntl errno select "
    # JSON, addresses, the group that owns the store, signals without the module signal.
    "_json _socket grp _signal".split()
)


@pytest.fixture
def image(rkt: Rkt, box: str) -> str:
    """The ID of an image in the store."""
    return rkt.ok("--insecure-options=image", "fetch", "--full", box).out.strip()


def test_list_with_a_pod(rkt: Rkt, image: str) -> None:
    rkt.ok("prepare", image, "--exec=/bin/true")
    words = rkt.argv("list")[1:]
    modules = imported(*words)
    assert own(modules) <= LIST
    assert modules - own(modules) <= {"_json", "errno", "fcntl"}
    assert "prepared" in rkt.ok("list").out


def test_list_without_pods(directory: str) -> None:
    modules = imported("list", directory)
    assert own(modules) <= LIST
    assert modules - own(modules) <= {"errno", "fcntl"}


def test_run_until_the_stage1(rkt: Rkt, image: str) -> None:
    """Python's own report ends where rkt becomes the stage1's program; images are rendered already."""
    rkt.ok("run", "--net=none", image, "--exec=/bin/true")
    modules = imported(*rkt.argv("run", "--net=none", image, "--exec=/bin/true")[1:])
    assert "rkt.stage0.run" in modules
    assert not (HEAVY - RUN) & modules
    assert modules - own(modules) <= RUN
    parts = {name.split(".")[1] for name in own(modules) if "." in name}
    assert "stage1" not in parts
    assert rkt.ok("list", "--no-legend").out.count("exited") == 2


@pytest.mark.parametrize("entry", ["init", "attach"])
def test_what_serves_streams_is_imported_by_pods_that_have_some(entry: str) -> None:
    """Nor does a wrong call of ``attach`` import what talks to it."""
    code = f"import sys; from rkt.stage1.systemd import {entry}; print(*sys.modules)"
    words = ["/usr/bin/python3", "-IS", "-c", f"import sys; sys.path.insert(0, {SOURCE!r}); {code}"]
    modules = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert f"rkt.stage1.systemd.{entry}" in modules
    serving = {f"rkt.stage1.systemd.{name}" for name in ("iottymux", "multiplexer", "relay")}
    assert not {*serving, "rkt.stage1.common.kubernetes", "termios", "tty"} & set(modules)


def test_images_are_not_taken_apart_by_rkt_itself(rkt: Rkt, box: str) -> None:
    """What reads archives is imported by the worker only."""
    modules = imported(f"--dir={rkt.dir}", "--insecure-options=image", "fetch", box)
    assert "rkt.store.confined" in modules
    apart = (
        "archive",
        "extract",
        "pax",
        "headers",
        "confined.importing",
        "confined.reading",
        "confined.unpacking",
    )
    assert not {f"rkt.store.{name}" for name in apart} & modules
