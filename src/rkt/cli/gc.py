"""``rkt gc``: mark pods that have ended, remove those that were marked long enough ago."""

from __future__ import annotations

import os

from rkt.cli import pods, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    """The order is rkt's: a pod that is marked now and has no grace period is removed in the same call."""
    from rkt.stage0.gc import Collector

    failures: list[str] = []

    def failed(message: str, error: Exception) -> None:
        failures.append(message)
        pods.complain(call, message, error)

    def collecting(uuid: str) -> None:
        call.print(f'Garbage collecting pod "{uuid}"')
        call.flush()

    collector = Collector(
        call.globals.dir,
        os.environ,
        notify=call.notify(call.command.name),
        failed=failed,
        collecting=collecting,
        debug=call.globals.debug,
        local_config=call.globals.local_config,
    )
    collector.mark()
    if not call.flags["mark-only"]:
        grace = call.flags["grace-period"]
        collector.mark_expired(call.flags["expire-prepared"])
        collector.remove_ended(grace, times.duration(grace))
        collector.remove_garbage()
    return 254 if failures else 0
