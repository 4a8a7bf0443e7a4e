"""What a download tells about itself while it runs; ``rkt.cli.progress`` draws it on a terminal."""

from __future__ import annotations


class Bar:
    """One download; ``total`` is in bytes, None where the server does not say.  This one is silent."""

    __slots__ = ()

    def advance(self, count: int) -> None:
        """So many bytes more have come."""

    def restart(self, done: int, total: int | None) -> None:
        """The download stands at ``done`` bytes of ``total``."""

    def finish(self) -> None:
        """It has ended, well or not."""


class Progress:
    """Makes the bars; safe between threads.  This one's are silent."""

    __slots__ = ()

    def start(self, name: str, *, done: int = 0, total: int | None = None) -> Bar:
        return Bar()
