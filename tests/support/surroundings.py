"""A command that is given something hostile: the host, the store and its memory before and after."""

from __future__ import annotations

import os
import subprocess
import tempfile

from support import machine, peak
from support.driver import Result, Rkt

MEMORY = 400 << 20
"""Bytes that reading an image may take; verifying, inflating and hashing a good one takes a quarter."""
HOST = ("/", "/etc", "/usr", "/usr/bin", "/var", "/tmp", "/root", "/proc/self/cwd")
TRACES = ("escaped", "evil", "overwritten")
"""Names that hostile images of the tests try to make on the host; others change it meanwhile."""


class Surroundings:
    """Made before, compared after by ``check``: canaries, traces on the host, the store."""

    def __init__(self, rkt: Rkt) -> None:
        self.rkt = rkt
        self.canaries = os.path.join(rkt.base, "canaries")
        # Where images may be written to: not into the data directory.
        self.output = os.path.join(rkt.base, "output")
        os.mkdir(self.output)
        os.makedirs(os.path.join(self.canaries, "directory"))
        for name in ("file", "directory/inner"):
            with open(os.path.join(self.canaries, name), "w") as file:
                file.write("canary")
        self.peak = 0
        self.before = self.state()

    def state(self) -> dict[str, object]:
        found: dict[str, object] = {"store": self.store(), "here": sorted(os.listdir(self.rkt.base))}
        found["canaries"] = _exact(self.canaries)
        found["traces"] = [
            f"{top}/{name}" for top in HOST for name in TRACES if os.path.lexists(f"{top}/{name}")
        ]
        found["links"] = os.stat("/etc/passwd").st_nlink
        return found

    def store(self) -> dict[str, object]:
        """What the store has of images; its empty directories and its index may come."""
        top = os.path.join(self.rkt.dir, "cas")
        found = {
            path: facts
            for path, facts in machine.tree(top).items()
            if not os.path.isdir(path) and not path.startswith((f"{top}/db/", f"{top}/imagelocks/"))
        }
        return {"files": found, "images": self.rkt("image", "list", "--no-legend", "--full").out}

    def run(self, *words: str, memory: int = MEMORY) -> Result:
        """Run a command to its end; its peak of resident memory, with all it starts, has to stay below."""
        argv = self.rkt.argv(*words)
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            tempfile.TemporaryFile() as measured,
        ):
            done = subprocess.run(
                peak.measuring(argv, measured),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.rkt.environment,
                pass_fds=[measured.fileno()],
                check=False,
            )
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8", "surrogateescape"))
            self.peak = peak.read(measured)
        result = Result(argv, done.returncode, *texts)
        assert self.peak < memory, (self.peak >> 20, result)
        return result

    def refused(self, *words: str, reason: str = "", memory: int = MEMORY) -> Result:
        """The command fails with a line that says ``reason``, and nothing is different afterwards."""
        result = self.run(*words, memory=memory)
        assert result.code == 254, result
        assert result.out == "", result
        assert reason in result.err, result
        assert len(result.err) < 5000 and "Traceback" not in result.err, result
        self.check()
        return result

    def confined(self, *words: str, memory: int = MEMORY) -> Result:
        """The command succeeds, and nothing but the store is different afterwards."""
        result = self.run(*words, memory=memory)
        assert result.code == 0, result
        self.check(store=False)
        return result

    def check(self, *, store: bool = True) -> None:
        after = self.state()
        for place, was in self.before.items():
            if place == "here":
                # The first command makes the data directory.
                assert set(after["here"]) - {"data"} == set(was) - {"data"}, after["here"]  # type: ignore[call-overload]
            elif place != "store" or store:
                assert after[place] == was, place


def _exact(directory: str) -> dict[str, object]:
    """Each path with what changing it would change."""
    found: dict[str, object] = {}
    for path, facts in machine.tree(directory).items():
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        times = 0 if os.path.isdir(path) else status.st_mtime_ns
        found[path] = (facts, times, status.st_nlink)
    return found
