"""Processes of the machine: those of one test only, as others of the same name run beside them."""

from __future__ import annotations

import itertools
import os

from support.waiting import until

_NUMBERS = itertools.count()


def children(pid: int) -> list[int]:
    """The children of a process; none when it has ended."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def below(pid: int) -> list[int]:
    """All descendants of a process, parents first."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def command(pid: int) -> str:
    """The command line of a process, its words with a blank between; "" when it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def commands(*tops: int) -> dict[str, int]:
    """What runs below some processes: by command line, the process."""
    found = {command(pid): pid for top in tops for pid in below(top)}
    found.pop("", None)
    return found


def find(wanted: str, *tops: int) -> int:
    """The process with this command line, one of some or below them, once it is there."""
    return find_all({wanted}, *tops)[wanted]


def find_all(wanted: set[str], *tops: int) -> dict[str, int]:
    """The processes with these command lines, of some and those below them, once all are there."""

    def found() -> dict[str, int]:
        known = {**{command(top): top for top in tops}, **commands(*tops)}
        known = {text: pid for text, pid in known.items() if text in wanted}
        return known if set(known) == wanted else {}

    return until(found, f"not all of {sorted(wanted)} are there")


def own_sleep() -> str:
    """A command line that sleeps longer than any test, and is no other test's."""
    return f"sleep {100_000_000 + 64 * os.getpid() + next(_NUMBERS) % 64}"


def is_left(wanted: str) -> bool:
    """Whether any process of the machine has this command line."""
    return any(command(int(name)) == wanted for name in os.listdir("/proc") if name.isdigit())
