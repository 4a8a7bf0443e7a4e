"""Runs pods of the systemd flavor for tests and reads what they print and leave."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from support import driver, processes
from support.waiting import until


def run(rkt: driver.Rkt, *words: str, **options: object) -> driver.Result:
    return rkt("--insecure-options=image", "run", "--net=none", *words, **options)


def shell(rkt: driver.Rkt, image: str, script: str, *words: str) -> driver.Result:
    return run(rkt, *words, image, "--exec=/bin/sh", "--", "-c", script)


def lines(result: driver.Result) -> list[str]:
    """What the apps printed, without the journal's prefix."""
    return [re.sub(r"^\[ *\d+\.\d+\] [a-z0-9-]+\[\d+\]: ", "", line) for line in result.lines]


def pod_directory(rkt: driver.Rkt) -> str:
    """The directory of the only pod in run."""
    run_directory = os.path.join(rkt.dir, "pods", "run")
    (uuid,) = os.listdir(run_directory)
    return os.path.join(run_directory, uuid)


def changed_stage1(directory: str, path: str, old: str, new: str) -> str:
    """The stage1 image, in a directory of its own, of sources in one of which a text is another one."""
    source = os.path.join(directory, "src")
    shutil.copytree(os.path.join(driver.ROOT, "src"), source, ignore=shutil.ignore_patterns("__pycache__"))
    with open(os.path.join(source, path)) as file:
        text = file.read()
    assert text.count(old) == 1
    with open(os.path.join(source, path), "w") as file:
        file.write(text.replace(old, new))
    image = os.path.join(source, "changed.aci")
    subprocess.run(
        [sys.executable, "-m", "rkt.stage1.build", "--flavor=host", f"--output={image}"],
        env={"PYTHONPATH": source, "PATH": os.environ["PATH"]},
        check=True,
    )
    return image


def statuses(rkt: driver.Rkt) -> dict[str, str]:
    listed = rkt("status", os.path.basename(pod_directory(rkt)))
    return dict(line.removeprefix("app-").split("=") for line in listed.lines if line.startswith("app-"))


def pods(rkt: driver.Rkt) -> list[str]:
    """The UUIDs of all pods that have been started."""
    try:
        return os.listdir(os.path.join(rkt.dir, "pods", "run"))
    except FileNotFoundError:
        return []


def leftovers(rkt: driver.Rkt, uuids: list[str]) -> list[str]:
    """Mounts, cgroups and files on this machine that belong to pods which are to be gone.

    Other tests may run at the same time: only what names this data directory or these pods counts.
    """
    with open("/proc/self/mountinfo") as file:
        found = [line for line in file if rkt.dir in line]
    escaped = tuple(uuid.replace("-", "\\x2d") for uuid in uuids)
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(directory, name) for name in names if any(text in name for text in escaped)]
    return found + pods(rkt)


class Running:
    """A pod left running; ``with`` waits until it is ready (or only has its directory) and ends it."""

    def __init__(self, rkt: driver.Rkt, *words: str, ready: bool = True, **options: object) -> None:
        self.rkt, self.ready = rkt, ready
        self.file = os.path.join(rkt.base, "uuid")
        if os.path.exists(self.file):
            os.unlink(self.file)
        self.process = rkt.start(
            *("--insecure-options=image", "run", "--net=none", f"--uuid-file-save={self.file}", *words),
            **options,
        )
        self.uuid = ""

    def __enter__(self) -> Running:
        try:
            until(self._has_begun, "the pod did not become ready")
        except BaseException:
            driver.end(self.process)
            raise
        return self

    def _has_begun(self) -> bool:
        """Whether the pod is as far as it is waited for."""
        assert self.process.poll() is None, driver.end(self.process)
        if not os.path.exists(self.file):
            return False
        with open(self.file) as file:
            self.uuid = file.read()
        if not self.ready:
            return bool(self.uuid) and os.path.exists(os.path.join(self.directory, "ppid"))
        ready = os.path.join(self.directory, "stage1/rootfs/rkt/supervisor-status")
        return bool(self.uuid) and os.path.islink(ready) and os.readlink(ready) == "ready"

    def __exit__(self, *_: object) -> None:
        self.result = driver.end(self.process)

    @property
    def directory(self) -> str:
        return os.path.join(self.rkt.dir, "pods", "run", self.uuid)

    @property
    def supervisor(self) -> int:
        with open(os.path.join(self.directory, "ppid")) as file:
            return int(file.read())

    def wait_for(self, path: str, app: str = "box") -> None:
        """Until the app has made a file: ready says that it was started, not how far it is."""
        full = f"{self.directory}/stage1/rootfs/opt/stage2/{app}/rootfs{path}"
        until(lambda: os.path.exists(full), f"{path} did not appear")

    @property
    def first(self) -> int:
        """The pod's process 1."""
        (pid,) = processes.children(self.supervisor)
        return pid

    def find(self, command: str) -> int:
        """The process of the pod with this command line: ready says only that it was started."""
        return processes.find(command, self.first)

    def enter(self, *command: str, **options: object) -> driver.Result:
        return self.rkt("enter", self.uuid, *command, **options)
