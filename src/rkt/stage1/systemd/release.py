"""Which systemd the host has, told from the name of its private library: asking the program takes 5 ms."""

from __future__ import annotations

import os

_PREFIX = "libsystemd-shared-"

MONITOR = 251
"""From this version on the units of OnSuccess= and OnFailure= are told how the other unit has ended."""


def version(usr: str = "/usr") -> int:
    """The major version of the systemd below ``usr``; 0 when that cannot be told."""
    for directory in ("lib/systemd", f"lib/{os.uname().machine}-linux-gnu/systemd", "lib64/systemd"):
        try:
            names = os.listdir(os.path.join(usr, directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            if name.startswith(_PREFIX):
                # libsystemd-shared-252.so, libsystemd-shared-252.22-1.fc38.so
                digits = name[len(_PREFIX) :].partition(".")[0].partition("-")[0].partition("~")[0]
                if digits.isdigit():
                    return int(digits)
    return 0
