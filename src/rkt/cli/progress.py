"""Downloads on a terminal: a bar each with size, rate and time left (rich, imported only for this)."""

from __future__ import annotations

import threading

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from rkt.image import progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


class Bars(progress.Progress):
    """The bars of one command; they are on the screen while at least one download is under way."""

    __slots__ = ("_active", "_lock", "_out", "_screen")

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._active = 0
        self._screen: Progress | None = None

    def start(self, name: str, *, done: int = 0, total: int | None = None) -> Bar:
        with self._lock:
            if self._screen is None:
                self._screen = _screen(self._out)
                self._screen.start()
            self._active += 1
            # square brackets in a file's name are no markup
            task = self._screen.add_task(name, total=total, completed=done)
            return Bar(self, self._screen, task)

    def end(self) -> None:
        """One bar less; the last one leaves the lines on the screen as they are."""
        with self._lock:
            self._active -= 1
            if not self._active and self._screen is not None:
                self._screen.stop()
                self._screen = None


class Bar(progress.Bar):
    """One line."""

    __slots__ = ("_bars", "_screen", "_task")

    def __init__(self, bars: Bars, screen: Progress, task: TaskID) -> None:
        self._bars: Bars | None = bars
        self._screen = screen
        self._task = task

    def advance(self, count: int) -> None:
        self._screen.advance(self._task, count)

    def restart(self, done: int, total: int | None) -> None:
        self._screen.update(self._task, completed=done, total=total)

    def finish(self) -> None:
        if self._bars is not None:
            bars, self._bars = self._bars, None
            self._screen.stop_task(self._task)
            bars.end()


def _screen(out: TextIO) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=out, force_terminal=True),
        redirect_stdout=False,
        redirect_stderr=False,
    )
