"""``rkt metadata-service``: tells apps about themselves, until it is stopped."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    if call.args:
        return call.usage()
    from rkt.service.metadata import server

    def log(text: str) -> None:
        try:
            call.error(text)
        except OSError:
            pass  # who reads the log may go, the service stays

    port: int | None = call.flags["listen-port"] if call.flags.given("listen-port") else None
    server.serve(port=port, data_dir=call.globals.dir, environment=os.environ, log=log)
    return 0
