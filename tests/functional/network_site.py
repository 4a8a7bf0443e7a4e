"""rkt on a host of its own: every command runs in the namespaces of ``network_host``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from network_host import Host

from support import driver
from support.driver import Result, Rkt


@pytest.fixture(scope="session")
def stage1_host(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The default stage1 image of the code under test."""
    path = os.path.join(tmp_path_factory.mktemp("stage1"), "stage1-host.aci")
    subprocess.run(
        [sys.executable, "-m", "rkt.stage1.build", "--flavor=host", f"--output={path}"],
        env={**os.environ, "PYTHONPATH": os.path.join(driver.ROOT, "src")},
        check=True,
    )
    return path


class Site:
    """A host and rkt on it."""

    def __init__(self, host: Host, program: Rkt, stage1: str) -> None:
        self.host, self.program, self.stage1 = host, program, stage1

    def __call__(self, *words: str) -> Result:
        words_ = self.program.argv("--insecure-options=image", *words)
        done = self.host.run(*words_, env=self.program.environment)
        return Result(words_, done.returncode, done.stdout, done.stderr)

    def run(self, *words: str) -> Result:
        return self("run", f"--stage1-path={self.stage1}", *words)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """``run``, left running."""
        return self.begin("run", f"--stage1-path={self.stage1}", *words)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """A command that nobody has waited for yet."""
        return subprocess.Popen(
            self.host.command(*self.program.argv("--insecure-options=image", *words)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.program.environment,
        )

    def collect(self) -> None:
        for _ in range(2):
            done = self("gc", "--grace-period=0s", "--expire-prepared=0s")
            assert done.code == 0, done
