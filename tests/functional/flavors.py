"""For tests that hold for both flavors: running an image, and a program that tries things inside."""

from __future__ import annotations

import json
from typing import Any

from systemd_pod import lines

from support import driver

NAMES = ("host", "fly")

_HEAD = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
"""


class Flavor:
    """``rkt run`` of one flavor, without a network; ``name`` is host or fly."""

    def __init__(self, rkt: driver.Rkt, name: str, probe_image: str) -> None:
        self.rkt, self.name, self._probe_image = rkt, name, probe_image

    @property
    def stage1(self) -> str:
        return f"--stage1-path={driver.STAGE1}/stage1-{self.name}.aci"

    def words(self, *words: str, insecure: str = "image", verb: str = "run") -> list[str]:
        network = ["--net=none"] if verb == "run" else []
        return [f"--insecure-options={insecure}", verb, *network, self.stage1, *words]

    def __call__(self, *words: str, insecure: str = "image", **options: Any) -> driver.Result:
        return self.rkt(*self.words(*words, insecure=insecure), **options)

    def lines(self, result: driver.Result) -> list[str]:
        """What the app printed, without the journal's prefix."""
        return lines(result)

    def shell(
        self, image: str, script: str, *flags: str, pod: tuple[str, ...] = (), **options: Any
    ) -> driver.Result:
        """Run a script as the app; ``flags`` are about the app, ``pod`` about the pod."""
        return self(*pod, image, "--exec=/bin/sh", *flags, "--", "-c", script, **options)

    def probe(self, code: str, *flags: str, pod: tuple[str, ...] = (), **options: Any) -> Any:
        """Run Python code as the app, which has the host's /usr; the value of ``answer`` in it."""
        text = f"{_HEAD}{code}\nprint(json.dumps(answer))\n"
        result = self(
            "--volume=usr,kind=host,source=/usr,readOnly=true",
            *(*pod, self._probe_image, "--mount=volume=usr,target=/usr", "--exec=/usr/bin/python3"),
            *(*flags, "--", "-IS", "-c", text),
            **options,
        )
        assert result.code == 0, result
        return json.loads(self.lines(result)[-1])
