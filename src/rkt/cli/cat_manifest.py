"""``rkt cat-manifest``: the manifest of a pod."""

from __future__ import annotations

from rkt.cli import pods
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    words = pods.uuids(call)
    if words is None or len(words) != 1:
        return call.usage()
    from rkt.appc import gojson

    with pods.find(call, words[0]) as pod:
        manifest = pod.manifest
        if not manifest:
            raise RktError(f'pod "{pod.uuid}" has no manifest yet')
        call.print(gojson.dumps(manifest, "\t" if call.flags["pretty-print"] else None))
    return 0
