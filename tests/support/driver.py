"""Runs the real program as a user would: bin/rkt with its own data directory and configuration."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from typing import Any

from support.waiting import PATIENCE, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RKT = os.environ.get("RKT_UNDER_TEST", os.path.join(ROOT, "bin", "rkt"))
STAGE1 = os.path.join(ROOT, "build", "stage1")


class Result:
    """What a command left behind: its status and what it printed."""

    __slots__ = ("argv", "code", "err", "out")

    def __init__(self, argv: list[str], code: int, out: str, err: str) -> None:
        self.argv, self.code, self.out, self.err = argv, code, out, err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def __repr__(self) -> str:
        return f"$ {' '.join(self.argv)}\n-- exit {self.code}\n-- out\n{self.out}\n-- err\n{self.err}"


class Program:
    """A program in one environment; call it with the words of a command line.

    ``argv`` is what comes of these words; ``timeout`` in seconds; ``options`` are those of subprocess.run.
    """

    environment: dict[str, str]
    timeout: float = PATIENCE

    def argv(self, *words: str) -> list[str]:
        raise NotImplementedError

    def __call__(
        self, *words: str, timeout: float | None = None, input: str | None = None, **options: Any
    ) -> Result:
        argv = self.argv(*words)
        environment = {**self.environment, **options.pop("env", {})}
        done = subprocess.run(
            argv,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=self.timeout if timeout is None else timeout,
            env=environment,
            check=False,
            **options,
        )
        return Result(argv, done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, **options: Any) -> Result:
        """The same, where anything but success is a failed test."""
        result = self(*words, **options)
        assert result.code == 0, result
        return result


class Rkt(Program):
    """One data directory and one configuration; call it with the words of a command line."""

    def __init__(self, directory: str) -> None:
        self.base = directory
        self.dir = os.path.join(directory, "data")
        self.config = os.path.join(directory, "config")
        self.system = os.path.join(directory, "system")
        for path in (self.config, self.system):
            os.makedirs(path, exist_ok=True)
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            # no test leaves the machine: nobody listens there, and loopback needs no proxy
            "HTTP_PROXY": "http://127.0.0.1:1",
            "HTTPS_PROXY": "http://127.0.0.1:1",
        }

    def argv(self, *words: str) -> list[str]:
        return [
            RKT,
            f"--dir={self.dir}",
            f"--local-config={self.config}",
            f"--system-config={self.system}",
            *words,
        ]

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Leave the command running; the caller ends it with ``end``."""
        options.setdefault("stdin", subprocess.DEVNULL)
        environment = {**self.environment, **options.pop("env", {})}
        return subprocess.Popen(
            self.argv(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **options,
        )

    def on_terminal(self, answer: str, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr with a terminal as standard input, on which ``answer`` was typed."""
        master, slave = pty.openpty()
        try:
            process = self.start(*words, stdin=slave)
            os.write(master, answer.encode())
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            os.close(master)
            os.close(slave)
        return process.returncode, out, err

    def wait_for(self, uuid: str, state: str) -> None:
        """Poll until the pod is in the state; a test fails when that takes too long."""
        until(lambda: f"state={state}\n" in self("status", uuid).out, f"pod {uuid} is not {state}")

    def clean(self) -> None:
        """Everything this data directory holds ends and goes: for the end of a test."""
        listed = self("list", "--full", "--no-legend")
        for line in listed.lines:
            uuid, *cells = line.split("\t")
            if uuid and "running" in cells:
                self("stop", "--force", uuid)
                self("status", "--wait=60s", uuid)
        self("gc", "--grace-period=0s", "--expire-prepared=0s")
        self("gc", "--grace-period=0s", "--expire-prepared=0s")


def end(process: subprocess.Popen[str], seconds: float = 60) -> Result:
    """SIGTERM, then SIGKILL after ``seconds``; returns what it printed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return Result([str(word) for word in process.args], process.returncode, out, err)  # type: ignore[union-attr]
