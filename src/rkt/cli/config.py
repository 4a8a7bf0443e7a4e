"""``rkt config``: the configuration in force."""

from __future__ import annotations

from rkt.appc import gojson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    call.print(gojson.dumps(call.config().dump(), "\t" if call.flags["pretty-print"] else None))
    return 0
