"""What the tables share: contenders that take turns, the image and directories of rkt, and podman."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable

from support import aci

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

RKT = os.path.join(ROOT, "bin", "rkt")
STAGE1 = os.path.join(ROOT, "build", "stage1")
PODMAN_IMAGE = "localhost/box"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Contender:
    """One command line of a table; ``before`` and ``after`` run untimed around it."""

    __slots__ = ("after", "argv", "before", "name", "times")

    def __init__(
        self,
        name: str,
        argv: list[str],
        after: Callable[[], None] | None = None,
        *,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.argv, self.before, self.after = name, argv, before, after
        self.times: list[float] = []

    def once(self, *, keep: bool) -> None:
        if self.before is not None:
            self.before()
        start = time.perf_counter()
        done = subprocess.run(
            self.argv, stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT, check=False
        )
        elapsed = time.perf_counter() - start
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(self.argv)}\nexit {done.returncode}\n{done.stderr.decode()}")
        if keep:
            self.times.append(elapsed * 1000)
        if self.after is not None:
            self.after()

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def measure(contenders: list[Contender], rounds: int) -> None:
    """Warm every contender up once, then let them take turns."""
    for contender in contenders:
        contender.once(keep=False)
    for _ in range(rounds):
        for contender in contenders:
            contender.once(keep=True)


def quiet(*argv: str) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT, check=True)


class Bench:
    """The images and directories all tables share."""

    def __init__(self, base: str, rounds: int) -> None:
        self.base, self.rounds = base, rounds
        self.data = os.path.join(base, "data")
        self.rkt = [RKT, f"--dir={self.data}", f"--local-config={base}/config", "--insecure-options=image"]
        self.rootfs = os.path.join(base, "rootfs")
        self.lines: list[str] = []
        image = aci.busybox(os.path.join(base, "box.aci"), app=aci.app("/bin/true"))
        self.key = subprocess.run(
            [*self.rkt, "fetch", image], capture_output=True, text=True, env=ENVIRONMENT, check=True
        ).stdout.strip()
        quiet(*self.rkt, "image", "extract", "--rootfs-only", self.key, self.rootfs)

    def collect(self) -> None:
        quiet(*self.rkt, "gc", "--grace-period=0s")

    def table(self, title: str, contenders: list[Contender], against: str) -> None:
        measure(contenders, self.rounds)
        base = next(c.median for c in contenders if c.name == against)
        self.lines += [
            f"## {title}",
            "",
            f"| | ratio to {against} | median ms | min ms |",
            "|---|---|---|---|",
        ]
        for c in contenders:
            self.lines.append(f"| {c.name} | {c.median / base:.2f} | {c.median:.1f} | {min(c.times):.1f} |")
        self.lines.append("")
        print("\n".join(self.lines[-len(contenders) - 5 :]), flush=True)


def podman_command(bench: Bench) -> list[str]:
    """podman with directories of its own, in which it has the image."""
    command = [
        "podman",
        f"--root={bench.base}/podman",
        f"--runroot={bench.base}/podman-run",
        "--cgroup-manager=cgroupfs",
    ]
    if not os.path.exists(f"{bench.base}/rootfs.tar"):
        quiet("tar", "-C", bench.rootfs, "-cf", f"{bench.base}/rootfs.tar", ".")
        quiet(*command, "import", f"{bench.base}/rootfs.tar", PODMAN_IMAGE)
    return command


def podman_options(network: str = "none") -> list[str]:
    """Of ``run`` and ``create``: podman's default limits may lie above what this user is allowed to set."""
    files = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return [f"--network={network}", f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=1000:1000"]


def podman_remove(bench: Bench) -> None:
    quiet(*podman_command(bench), "rm", "--all", "--force")


def podman(bench: Bench, name: str = "podman run", network: str = "none", *options: str) -> Contender:
    return Contender(
        name,
        [*podman_command(bench), "run", *podman_options(network), *options, PODMAN_IMAGE, "/bin/true"],
        lambda: podman_remove(bench),
    )
