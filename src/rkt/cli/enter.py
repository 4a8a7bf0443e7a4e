"""``rkt enter``: a command inside an app of a running pod."""

from __future__ import annotations

import os

from rkt.cli import pods
from rkt.errors import RktError
from rkt.pod import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call

_SHELL = "/bin/bash"


def run(call: Call) -> int:
    """Becomes the stage1's program; the exit code is the command's."""
    from rkt.stage0 import enter
    from rkt.stage0.run import execute

    if not call.args:
        return call.usage()
    prefix, *command = call.args
    with pods.find(call, prefix) as pod:
        if pod.state != state.RUNNING:
            raise RktError(f'pod "{pod.uuid}" isn\'t currently running')
        app = enter.select_app(pod, call.flags["app"], "enter")
        if not command:
            call.error(f'no command specified, assuming "{_SHELL}"')
            command = [_SHELL]
        start = enter.enter(pod, app, command, os.environ)
        call.flush()
        execute(start)
    raise AssertionError("not reached")
