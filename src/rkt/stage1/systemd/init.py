"""Entry point ``run``: turns the process that stage0 executed into the pod's supervisor.

What the kernel takes longest for is begun first: moving this process into the cgroup of the pod.  Meanwhile
the rest of the code is loaded and carried out (``start``), up to the exec of systemd-nspawn.  The fd of
the pod's lock stays open throughout: the pod lives as long as it is held.  Whatever fails before the end is
undone; the directory of a pod that was prepared earlier stays, exited, for gc.
"""

from __future__ import annotations

import os
import sys

from rkt.errors import RktError, one_line, tree
from rkt.linux import listening
from rkt.network import selection
from rkt.stage1.common import discard, interrupt, outcome
from rkt.stage1.common import flags as command_line
from rkt.stage1.common.background import Background
from rkt.stage1.common.messages import note
from rkt.stage1.systemd import cgroups
from rkt.stage1.systemd.entry import Entry

FAILURE = 254

# Between its waits the thread that enters the cgroup has little to do; it shall not wait for the other, too.
_SWITCH_SECONDS = 0.0001


def main(argv: list[str]) -> int:
    """Returns only when something failed; the pod's result is the supervisor's exit code."""
    debug = "--debug" in argv
    directory, fresh, strict = os.getcwd(), discard.wanted(), outcome.is_strict()
    code = FAILURE
    # Directories on the way to the journal are for every user of the pod, whatever the caller's umask.
    os.umask(0o022)
    try:
        interrupt.catch_signals()
        flags = command_line.run_flags(argv[1:])
        debug = flags.debug
        run(Entry(directory, flags, _lock_fd(), strict=strict))
    except (RktError, OSError, ValueError) as error:
        for line in tree(error) if debug else [one_line(error)]:
            note(line)
        hint = getattr(error, "hint", "")
        if hint:
            note(hint)
    except KeyboardInterrupt:
        code = interrupt.EXIT_CODE
    if fresh and not _is_recorded(directory):
        _discard(directory)
    return code


def _is_recorded(directory: str) -> bool:
    from rkt.network import lifecycle

    return lifecycle.is_recorded(directory) or cgroups.is_recorded(directory)


def _discard(directory: str) -> None:
    try:
        discard.discard(directory)
    except (RktError, OSError) as error:
        note(f"error removing the pod that could not be started: {one_line(error)}")


def _lock_fd() -> int:
    """The fd of the pod's lock, which stage0 passed on; children of ours do not get it."""
    text = os.environ.get("RKT_LOCK_FD", "")
    if not text.isdigit():
        raise RktError("RKT_LOCK_FD does not name the lock of the pod")
    fd = int(text)
    try:
        os.set_inheritable(fd, False)
    except OSError as error:
        raise RktError(f"RKT_LOCK_FD: {fd} is not open") from error
    return fd


def run(entry: Entry) -> None:
    """Carry out everything up to the exec of the supervisor."""
    if entry.flags.mutable:
        raise RktError("this stage1 does not support mutable pods")
    if "LISTEN_FDS" in os.environ:
        # What is started before the supervisor is not to hold sockets that systemd passed.
        listening.set_inheritable(listening.descriptors(os.environ), False)
    try:
        entry.make_cgroup()
        # Programs that set up a network stay outside of it.
        sys.setswitchinterval(_SWITCH_SECONDS)
        with Background(entry.enter_cgroup) as entered:
            if selection.kind(entry.networks) == selection.NONE:
                entered.start()
            from rkt.stage1.systemd import start

            plan = start.prepare(entry, entered)
        start.execute(entry, plan)
    except BaseException:
        try:
            entry.undo()
        except (RktError, OSError) as error:
            # What made it necessary is what the user has to know; gc undoes the rest.
            note(f"error undoing the start of the pod: {one_line(error)}")
        raise
