"""``stop``: ask the app's process group to end, or kill it.

stop [--force] UUID          in the pod's directory
"""

from __future__ import annotations

import os
import sys
import time

from rkt.errors import RktError, one_line
from rkt.stage1.common import flags, status

_SIGKILL = 9
_SIGTERM = 15


def main(argv: list[str]) -> int:
    """The entry point; ``argv`` includes the program's name."""
    try:
        values, arguments, _ = flags.parse(argv[1:], flags.STOP)
        if len(arguments) != 1:
            raise RktError("a pod UUID is required")
        stop(".", arguments[0], force=values["force"] is True)
    except (RktError, OSError) as exc:
        sys.stderr.write(f"stage1: {one_line(exc)}\n")
        return 254
    return 0


def stop(directory: str, uuid: str, *, force: bool) -> None:
    """Signal the pod in ``directory``; a pod that has ended meanwhile is no error.

    The group is only signalled while the pod's lock is held: afterwards its number may be another's.  A
    program that has just been started has no group yet, and between two programs there is none.
    """
    deadline = time.monotonic() + status.START_SECONDS
    while (group := status.await_pid(directory, "pgid")) is not None and status.is_running(directory):
        if group == os.getpgrp():
            raise RktError(f"pod {uuid}: {group} is the process group of this program")
        try:
            os.killpg(group, _SIGKILL if force else _SIGTERM)
            return
        except ProcessLookupError:
            if time.monotonic() > deadline:
                raise RktError(f"pod {uuid} has no process {group}") from None
        time.sleep(status.POLL_SECONDS)
