"""Many pods: eight started at once, a thousand listed; and what one that does nothing keeps in memory."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import time

from contenders import (
    ENVIRONMENT,
    PODMAN_IMAGE,
    Bench,
    Contender,
    podman_command,
    podman_options,
    podman_remove,
    quiet,
)

AT_ONCE = 8
MANY = 1000
_ROUNDS = 5
_SECONDS = 30.0
_APP = "sleep"


def eight_at_once(bench: Bench) -> None:
    """The time until the last of them has ended."""
    podman = [*podman_command(bench), "run", *podman_options(), PODMAN_IMAGE, "/bin/true"]
    contenders = [
        _together("rkt run (systemd)", [*bench.rkt, "run", "--net=none", bench.key]),
        _together("podman run", podman),
    ]
    contenders[0].after = bench.collect
    contenders[1].after = lambda: podman_remove(bench)
    bench.table(f"{AT_ONCE} runs of /bin/true at once, no network", contenders, "podman run")


def _together(name: str, argv: list[str]) -> Contender:
    call = shlex.join(argv)
    script = f'for i in {" ".join(map(str, range(AT_ONCE)))}; do {call} & pids="$pids $!"; done; '
    return Contender(name, ["sh", "-ec", script + "for pid in $pids; do wait $pid; done"])


def many(bench: Bench) -> None:
    """Prepared pods beside created containers, none of which runs."""
    podman = podman_command(bench)
    for _ in range(MANY):
        quiet(*bench.rkt, "prepare", bench.key)
        quiet(*podman, "create", *podman_options(), PODMAN_IMAGE, "/bin/true")
    contenders = [
        Contender("rkt list", [*bench.rkt, "list"]),
        Contender("podman ps -a", [*podman, "ps", "-a"]),
    ]
    bench.table(f"Listing {MANY} pods", contenders, "podman ps -a")
    podman_remove(bench)
    quiet(*bench.rkt, "gc", "--expire-prepared=0s", "--grace-period=0s")


def idle(bench: Bench) -> None:
    """The memory of all processes of a pod but its app's, shared pages divided by those who share them."""
    podman = [*podman_command(bench), "run", *podman_options(), PODMAN_IMAGE, "/bin/sleep", "1000"]
    rkt = [*bench.rkt, "run", "--net=none", bench.key, "--exec=/bin/sleep", "--", "1000"]
    bench.lines += [
        "## Memory of an idle pod without its app (proportional set size)",
        "",
        "| | MB | processes |",
        "|---|---|---|",
    ]
    for name, argv in (("rkt run (systemd)", rkt), ("podman run", podman)):
        sizes = [_measure(bench.base, argv) for _ in range(min(bench.rounds, _ROUNDS))]
        size = statistics.median(size for size, _ in sizes)
        bench.lines.append(f"| {name} | {size / 1e6:.1f} | {', '.join(sizes[-1][1])} |")
        print(bench.lines[-1], flush=True)
    bench.lines.append("")
    bench.collect()
    podman_remove(bench)


def _measure(base: str, argv: list[str]) -> tuple[int, list[str]]:
    """Start a pod whose app sleeps, look at it once the app runs, and end it."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    try:
        deadline = time.monotonic() + _SECONDS
        while _APP not in _tree(base).values():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{shlex.join(argv)} did not start")
            time.sleep(0.1)
        time.sleep(1)  # what has been freed at the end of the start is given back
        # podman itself only waits for the container; without it what stays is the same.
        found = {pid: name for pid, name in _tree(base).items() if name not in (_APP, "podman")}
        return sum(map(_proportional, found)), sorted(found.values())
    finally:
        for pid, name in _tree(base).items():
            if name == _APP:
                os.kill(pid, 9)
        process.wait(_SECONDS)


def _tree(base: str) -> dict[int, str]:
    """The processes that name a directory of ours in their command line, and all below them, with names."""
    names, parents, found = {}, {}, set()
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            with open(f"/proc/{pid}/stat") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            with open(f"/proc/{pid}/cmdline") as file:
                if base in file.read() and pid != os.getpid():
                    found.add(pid)
        except OSError:
            continue  # it has ended meanwhile
        names[pid], parents[pid] = name, int(rest.split()[1])
    while further := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= further
    return {pid: names[pid] for pid in found if pid in names}


def _proportional(pid: int) -> int:
    """Proportional set size in bytes, 0 for a process that has ended, or has no memory of its own."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except OSError:
        return 0
