"""``rkt version``: five lines whose keys and order scripts rely on."""

from __future__ import annotations

import os
import sys

from rkt import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "ppc64le": "ppc64le"}
"""Go's names of what the kernel calls its machine."""


def run(call: Call) -> int:
    machine = os.uname().machine
    python = ".".join(map(str, sys.version_info[:3]))
    call.print(f"rkt Version: {VERSION}")
    call.print("appc Version: 0.8.11")
    call.print(f"Go Version: none (Python {python})")
    call.print(f"Go OS/Arch: linux/{ARCHITECTURES.get(machine, machine)}")
    call.print("Features: -TPM +SDJOURNAL")
    return 0
