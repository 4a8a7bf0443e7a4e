"""The words for the state of a pod, and how directory and lock make them.

State is derived, never recorded.  A pod's directory is locked exclusively (flock) by the process that
creates, runs or deletes it; the kernel drops the lock when the last holder dies, however it dies.

    directory        locked            not locked
    embryo           embryo            embryo
    prepare          preparing         aborted prepare
    prepared         prepared          prepared
    run              running           exited
    exited-garbage   exited deleting   exited garbage
    garbage          deleting          garbage
"""

from __future__ import annotations

from rkt.pod import layout

EMBRYO = "embryo"
PREPARING = "preparing"
ABORTED_PREPARE = "aborted prepare"
PREPARED = "prepared"
RUNNING = "running"
DELETING = "deleting"
EXITED_DELETING = "exited deleting"
EXITED = "exited"
EXITED_GARBAGE = "exited garbage"
GARBAGE = "garbage"

# Directories whose lock says nothing more; it is not even tried there, for the process that is about
# to run a prepared pod must not be disturbed.
_FIXED = {layout.EMBRYO_DIRECTORY: EMBRYO, layout.PREPARED_DIRECTORY: PREPARED}
_LOCKED = {
    layout.PREPARE_DIRECTORY: PREPARING,
    layout.RUN_DIRECTORY: RUNNING,
    layout.EXITED_GARBAGE_DIRECTORY: EXITED_DELETING,
    layout.GARBAGE_DIRECTORY: DELETING,
}
_UNLOCKED = {
    layout.PREPARE_DIRECTORY: ABORTED_PREPARE,
    layout.RUN_DIRECTORY: EXITED,
    layout.EXITED_GARBAGE_DIRECTORY: EXITED_GARBAGE,
    layout.GARBAGE_DIRECTORY: GARBAGE,
}

# The pod has run: it may have exit codes.
ENDED = frozenset((DELETING, EXITED_DELETING, EXITED, EXITED_GARBAGE))


def fixed(directory: str) -> str | None:
    """The state of a pod in a directory whose lock does not matter, None where it does."""
    return _FIXED.get(directory)


def derive(directory: str, locked: bool) -> str:
    """The state of a pod in ``directory``."""
    word = _FIXED.get(directory)
    if word is not None:
        return word
    return (_LOCKED if locked else _UNLOCKED)[directory]


def trace(point: str) -> None:
    """Called at the points between two system calls where another process may change a pod.

    Does nothing; a test puts a function in its place to make a race happen there.
    """
