"""Runs what reads bytes from outside in a process of its own, which can do nothing else.

An archive, or a compressed stream, is whatever its maker wanted it to be; the code that takes it apart is the
code an attack is aimed at.  So it runs in a worker: a fresh interpreter that imports a task's modules, gives
up all else (``rkt.store.confined.confinement``), and only then reads the first byte.  ::

    rkt                                   worker
    spawn, pass fds  ------------------>  imports, confines itself
    request (JSON)   -- pipe, its fd 0 -->  kept open: its end kills the worker
                     <-- pipe, its fd 1 --  words of a broken interpreter; NUL; answer (JSON)

What decides about a name in the store (a digest, a signature, a manifest) is computed by rkt itself from
bytes it holds: an answer is a claim.  Which tasks there are is fixed in ``rkt.store.confined.tasks``.

A worker ends with rkt: when the last copy of rkt's end of the request's pipe is closed, by ``kill -9`` too,
the kernel kills it.  What it had written then lies in files and directories of rkt's, which are collected as
those of any process that was killed.
"""

from __future__ import annotations

import os
import sys

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SIGKILL = 9
_LIMIT = 64 << 20
"""Bytes of an answer."""
_START = """\
import sys
import gc
gc.disable()
bundled, source, *sys.path = sys.argv[1:]
if bundled:
    from rkt import bundle
    bundle.install(bundled, source)
from rkt.store.confined import program
program.main()
"""

_listeners: list[Callable[[str], object]] = []
_told: set[str] = set()


def on_missing(listener: Callable[[str], object]) -> None:
    """Have ``listener`` told, once each, what of the confinement this machine lacks (``--debug``)."""
    _listeners[:] = [listener]


def _tell(text: str) -> None:
    if _listeners and text not in _told:
        _told.add(text)
        _listeners[0](text)


class Worker:
    """One task in a process of its own; a context manager, and leaving it kills what still runs.

    ``task`` is a name of ``rkt.store.confined.tasks.TASKS``, ``arguments`` are JSON-able (strings in UTF-8),
    ``fds`` are what the task gets: files, pipes and directories, each still the caller's.  May be started
    from any thread, several at once; ``wait`` belongs to one thread.
    """

    __slots__ = ("_answer", "_lifeline", "_pid", "_task")

    def __init__(self, task: str, arguments: dict[str, object], fds: Sequence[int]) -> None:
        """Raises OSError when no process can be started; a task that does not exist is a defect."""
        from rkt.appc import gojson
        from rkt.linux import files
        from rkt.store.confined.tasks import TASKS

        if task not in TASKS:
            raise AssertionError(f"there is no task {task}")
        self._task = task
        self._pid = 0
        request = gojson.dumps({"task": task, "arguments": arguments, "fds": list(range(3, 3 + len(fds)))})
        theirs, self._lifeline = os.pipe2(os.O_CLOEXEC)
        try:
            self._answer, output = os.pipe2(os.O_CLOEXEC)
            try:
                self._pid = _spawn(theirs, output, fds)
            finally:
                os.close(output)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(theirs)
        data = request.encode()
        try:
            files.write_all(self._lifeline, b"%016x" % len(data) + data)
        except BrokenPipeError:
            # It has ended; ``wait`` says why.
            pass
        except BaseException:
            self.kill()
            raise

    def wait(self) -> dict[str, object]:
        """What the task returned, once it has ended.

        Raises what it raised: RktError with its causes and hint, OSError with errno and file name.  An
        RktError too for a worker that was killed or needed more memory than it may have.
        """
        from rkt.store.confined import answers

        try:
            data = self._read()
            status = os.waitstatus_to_exitcode(self._reap())
        finally:
            self.kill()
        answer = answers.decode(data, status=status, task=self._task)
        for text in answer.missing:
            _tell(text)
        return answer.result()

    def kill(self) -> None:
        """End the process if it still runs; harmless at any time."""
        if self._pid:
            os.kill(self._pid, _SIGKILL)
            self._reap()
        self._close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> bytes:
        data = bytearray()
        while chunk := os.read(self._answer, 1 << 16):
            data += chunk
            if len(data) > _LIMIT:
                raise RktError(f"the worker answers with more than {_LIMIT} bytes")
        return bytes(data)

    def _reap(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return status

    def _close(self) -> None:
        for name in ("_lifeline", "_answer"):
            fd = getattr(self, name, -1)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)


def call(task: str, arguments: dict[str, object], fds: Sequence[int]) -> dict[str, object]:
    """Run a task and return its result; see ``Worker``."""
    with Worker(task, arguments, fds) as worker:
        return worker.wait()


def _spawn(request: int, output: int, fds: Sequence[int]) -> int:
    """Start the worker: its fds 0, 1 and 2 are the pipes, those of the task come next in their order."""
    import rkt
    from rkt import bundle
    from rkt.linux import process

    source = os.path.dirname(os.path.dirname(os.path.abspath(rkt.__file__ or "")))
    # sys.path as this process has it; a relative entry would mean another directory there.
    paths = [path for path in sys.path if os.path.isabs(path)]
    argv = [sys.executable, "-IS", "-c", _START, bundle.installed(), source, *paths]
    # Above all numbers that are given anew, or one would overwrite another's source.
    floor = 3 + len(fds)
    copies: list[int] = []
    try:
        actions: list[tuple[int, int, int]] = []
        for target, fd in enumerate((request, output, output, *fds)):
            copies.append(_copy(fd, floor))
            actions.append((os.POSIX_SPAWN_DUP2, copies[-1], target))
        return process.start(argv, process.CLEAN_ENVIRONMENT, actions, group=True)
    finally:
        for fd in copies:
            os.close(fd)


def _copy(fd: int, floor: int) -> int:
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    return fcntl(fd, F_DUPFD_CLOEXEC, floor)
