"""``rkt attach``: the standard streams of this command become those of an app of a running pod."""

from __future__ import annotations

import os

from rkt.cli import pods
from rkt.errors import RktError
from rkt.pod import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    """Becomes the stage1's program, whose exit code is ours."""
    from rkt.stage0 import attach, enter
    from rkt.stage0.run import execute

    if len(call.args) != 1:
        return call.usage()
    mode = call.flags["mode"]
    attach.arguments(mode)
    with pods.find(call, call.args[0]) as pod:
        if pod.state != state.RUNNING:
            raise RktError(f'pod "{pod.uuid}" isn\'t currently running')
        app = enter.select_app(pod, call.flags["app"], "attach")
        start = attach.attach(pod, app, mode, os.environ, debug=call.globals.debug)
        call.flush()
        execute(start)
    raise AssertionError("not reached")
