"""Enter: this process becomes the stage1's ``enter``, which runs a command inside an app."""

from __future__ import annotations

from rkt.errors import RktError
from rkt.pod import process, state, status
from rkt.stage0.interface import Stage1
from rkt.stage0.run import Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.pod.pod import Pod


def select_app(pod: Pod, name: str, command: str = "enter") -> str:
    """The app ``rkt COMMAND`` is about: the one named, or the only one there is.

    RktError lists the apps when there are several, or none of that name.
    """
    names = [str(app.get("name", "")) for app in status.apps(pod)]
    if not names:
        raise RktError("pod contains zero apps")
    if name:
        if name not in names:
            raise RktError(f'pod "{pod.uuid}" has no app "{name}"')
        return name
    if len(names) > 1:
        listed = "".join(f"\n\t{entry}" for entry in names)
        hint = f'specify app using "rkt {command} --app= ..."'
        raise RktError(f"pod contains multiple apps:{listed}", hint)
    return names[0]


def enter(pod: Pod, app: str, command: list[str], environment: Mapping[str, str]) -> Start:
    """What to execute in order to run ``command`` in ``app`` of a running pod.

    Waits for the process of a pod that is still starting.
    """
    if pod.state != state.RUNNING:
        raise RktError(f'pod "{pod.uuid}" isn\'t currently running')
    stage1 = Stage1(pod)
    pid = process.container_pid(pod)
    program = stage1.program("enter", root=stage1.tree_root())
    argv = [program, f"--pid={pid}", f"--appname={app}", "--", *command]
    return Start(argv, environment=dict(environment), directory=pod.path, lock_fd=-1)
