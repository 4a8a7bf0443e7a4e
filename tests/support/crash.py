"""Ends a process before its n-th call of the kernel, as SIGKILL would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

CALLS = (
    "open mkdir rename unlink fsync write fchmod fchown chmod rmdir ftruncate link stat listdir pwrite"
).split()


class Crash:
    """Runs a piece of work in a child that ends, as if killed, before its n-th call of the kernel.

    ``more`` are calls beyond those of ``os`` in ``CALLS``: a module or object, and names of functions in it.
    """

    def __init__(self, work: Callable[[], object], more: Iterable[tuple[Any, list[str]]] = ()) -> None:
        self.work = work
        self.calls = [(os, CALLS), *more]

    def at(self, number: int) -> bool:
        """Whether the child got to the end of its work before the n-th call."""
        pid = os.fork()
        if pid == 0:
            status = 3
            try:
                self._arm(number)
                self.work()
                status = 0
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 77), code
        return code == 0

    def _arm(self, number: int) -> None:
        left = [number]

        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    os._exit(77)
                return function(*arguments, **options)

            return counted

        for place, names in self.calls:
            for name in names:
                setattr(place, name, wrap(getattr(place, name)))
