"""Attach: this process becomes the stage1's ``attach``, which connects it to the streams of an app."""

from __future__ import annotations

from rkt.errors import RktError
from rkt.pod import process
from rkt.stage0.interface import Stage1
from rkt.stage0.run import Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.pod.pod import Pod

_STREAMS = ("stdin", "stdout", "stderr")
_TERMINAL = {"tty": ("tty-in", "tty-out"), "tty-in": ("tty-in",), "tty-out": ("tty-out",)}
_FLAGS = ("tty-in", "tty-out", *_STREAMS)


def arguments(mode: str) -> list[str]:
    """What ``--mode`` is in words of the stage1's program; RktError for a mode there is none of."""
    if mode == "list":
        return ["--action=list"]
    if mode in ("", "auto"):
        return ["--action=auto-attach"]
    chosen: set[str] = set()
    for word in mode.split(","):
        if word not in _STREAMS and word not in _TERMINAL:
            raise RktError(f'invalid attach mode: unknown endpoint "{word}"')
        chosen.update(_TERMINAL.get(word, (word,)))
    if chosen.intersection(_STREAMS) and not chosen.issubset(_STREAMS):
        raise RktError(
            f'invalid attach mode: incompatible endpoints "{mode}", '
            "cannot simultaneously attach TTY and streams"
        )
    given = [f"--{name}={'true' if name in chosen else 'false'}" for name in _FLAGS]
    return ["--action=custom-attach", *given]


def attach(pod: Pod, app: str, mode: str, environment: Mapping[str, str], *, debug: bool) -> Start:
    """What to execute in order to attach to ``app`` of a running pod; ``mode`` is that of ``arguments``.

    RktError for a stage1 that cannot be attached to.  Waits for the process of a pod that is still starting.
    """
    words = arguments(mode)
    stage1 = Stage1(pod)
    stage1.entry_point("attach")
    pid = process.container_pid(pod)
    argv = [stage1.nearest_program("attach"), *words, f"--app={app}", f"--debug={str(debug).lower()}"]
    crossing = {
        "RKT_STAGE1_ENTERCMD": stage1.program("enter", root=stage1.tree_root()),
        "RKT_STAGE1_ENTERPID": str(pid),
        "PATH": environment.get("PATH", ""),
    }
    return Start(argv, environment=crossing, directory=pod.path, lock_fd=-1)
