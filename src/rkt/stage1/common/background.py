"""A function that runs in a thread of its own, for waits for the kernel that something else can fill."""

from __future__ import annotations

import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Background:
    """Runs ``function`` from ``start`` on; the end of ``with`` waits for it.

    The thread stays in the mount namespace and in the network namespace it was started in.
    """

    __slots__ = ("_ended", "_error", "_function", "_started")

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._ended = _thread.allocate_lock()
        self._started = False
        self._error: BaseException | None = None

    def start(self) -> None:
        """Run the function, unless that has happened."""
        if self._started:
            return
        self._ended.acquire()
        try:
            _thread.start_new_thread(self._run, ())
        except BaseException:
            self._ended.release()
            raise
        self._started = True

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.release()

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        with self._ended:
            pass

    def wait(self) -> None:
        """Return when the function, started by now, has ended; what it raised is raised here."""
        self.start()
        with self._ended:
            pass
        if self._error is not None:
            raise self._error
