"""``rkt export``: an app of an ended pod as an image."""

from __future__ import annotations

from rkt.cli import pods
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    if len(call.args) != 2:
        return call.usage()
    from rkt.stage0 import enter, export

    prefix, output = call.args
    if not output.endswith(".aci"):
        raise RktError(f"extension must be .aci (given {output})")
    with pods.find(call, prefix) as pod:
        export.check(pod)
        app = enter.select_app(pod, call.flags["app"])
        export.export(pod, app, output, overwrite=call.flags["overwrite"])
    return 0
