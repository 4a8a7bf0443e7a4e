"""Runs the tools beside rkt (actool, acbuild, docker2aci) as a user would."""

from __future__ import annotations

import os
from typing import Any

from support.driver import RKT, Program, Result


class Tool(Program):
    """One tool in one working directory; call it with the words of a command line."""

    timeout = 240

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

    def argv(self, *words: str) -> list[str]:
        return [self.program, *words]

    def __call__(self, *words: str, **options: Any) -> Result:
        options.setdefault("cwd", self.directory)
        return super().__call__(*words, **options)
