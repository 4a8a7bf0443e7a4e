"""The images that the units of docs/systemd.md and of the tests run."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from support import aci

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "service.c")
WAIT = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
NOTIFY = {"name": "appc.io/executor/supports-systemd-notify", "value": "true"}


def compile_service(directory: str) -> str:
    """The program of service.c, without libraries."""
    path = os.path.join(directory, "service")
    command = ["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", path, SOURCE]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


class Images:
    """Image files in a directory, each with busybox and /bin/service."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        with open(compile_service(directory), "rb") as file:
            self.program = file.read()

    def make(self, name: str, *command: str, notify: bool = False, **members: Any) -> str:
        """The path of ``example.com/NAME``, version 1."""
        return aci.busybox(
            os.path.join(self.directory, f"{name}.aci"),
            f"example.com/{name}",
            entries=[aci.Entry("bin/service", self.program, mode=0o755), aci.Entry("index.html", b"hello\n")],
            app=aci.app(*command, **members),
            **({"annotations": [NOTIFY]} if notify else {}),
        )

    def documented(self) -> list[str]:
        """Those docs/systemd.md names."""
        http = {"name": "http", "protocol": "tcp", "port": 80}
        return [
            self.make("web", "/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/", ports=[http]),
            self.make("lazy", "/bin/service", "serve", "lazy", ports=[{**http, "socketActivated": True}]),
            self.make("batch", "/bin/sh", "-c", WAIT),
            self.make("ready", "/bin/sh", "-c", f"service ready; {WAIT}", notify=True),
        ]
