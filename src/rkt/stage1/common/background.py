"""A function that runs in a thread of its own, for waits for the kernel that something else can fill."""

from __future__ import annotations

import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Background:
    """Runs ``function`` from the beginning of ``with`` on; the end of ``with`` waits for it.

    The thread stays in the mount namespace and in the network namespace it was started in.  Nothing may be
    forked meanwhile.
    """

    __slots__ = ("_ended", "_error", "_function", "_value")

    def __init__(self, function: Callable[[], str]) -> None:
        self._function = function
        self._ended = _thread.allocate_lock()
        self._error: BaseException | None = None
        self._value = ""

    def __enter__(self) -> Background:
        self._ended.acquire()
        try:
            _thread.start_new_thread(self._run, ())
        except BaseException:
            self._ended.release()
            raise
        return self

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.release()

    def __exit__(self, *_: object) -> None:
        with self._ended:
            pass

    def result(self) -> str:
        """What the function returned, waited for; what it raised is raised here."""
        with self._ended:
            pass
        if self._error is not None:
            raise self._error
        return self._value
