"""Words for tests of flavor fly: what to run, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable

from support.driver import Result, Rkt

Run = Callable[..., Result]


def mounts_below(directory: str) -> list[str]:
    with open("/proc/self/mountinfo") as file:
        return [line for line in file if f" {directory}/" in line]


def shell(script: str, *flags: str) -> list[str]:
    """Words after an image that make it run a script."""
    return ["--exec=/bin/sh", *flags, "--", "-c", script]


def argv(rkt: Rkt, stage1_fly: str, *words: str) -> list[str]:
    return rkt.argv("--insecure-options=image", "run", f"--stage1-path={stage1_fly}", *words)


def only_pod(rkt: Rkt) -> str:
    (line,) = rkt.ok("list", "--full", "--no-legend").lines
    return line.split("\t")[0]


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def volume(name: str, path: str, *more: str) -> str:
    return ",".join([f"--volume={name}", "kind=host", f"source={path}", *more])
