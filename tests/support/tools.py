"""Runs the tools beside rkt (actool, acbuild, docker2aci) as a user would."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from support.driver import RKT, Result


class Tool:
    """One tool in one working directory; call it with the words of a command line."""

    def __init__(self, name: str, directory: str) -> None:
        self.program = os.path.join(os.path.dirname(RKT), name)
        self.directory = directory
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": directory,
            "LANG": "C.UTF-8",
            "HTTP_PROXY": "http://127.0.0.1:1",
            "HTTPS_PROXY": "http://127.0.0.1:1",
        }

    def __call__(self, *words: str, timeout: float = 120, input: str | None = None, **options: Any) -> Result:
        argv = [self.program, *words]
        environment = {**self.environment, **options.pop("env", {})}
        options.setdefault("cwd", self.directory)
        done = subprocess.run(
            argv,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
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
