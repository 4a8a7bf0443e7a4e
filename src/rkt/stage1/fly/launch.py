"""Starts the programs of a pod one after the other, event handlers and the app, and waits for each.

A child builds the app's root and becomes the program; a fault before that comes back through a pipe that
closes by itself when execve(2) succeeds.  With event handlers the root is built once, by a child of its own,
and the programs join its mount namespace.
"""

from __future__ import annotations

import os

from rkt.errors import RktError, one_line
from rkt.linux import namespaces, process
from rkt.stage1.common import status
from rkt.stage1.fly import application, supervisor
from rkt.stage1.fly import root as roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.stage1.common.pod import Pod
    from rkt.stage1.fly.application import Application

FAILED = 254
_SIGKILL = 9


class Launcher:
    """Of one pod; from its making on, signals to this process wait for the program that runs."""

    __slots__ = ("_mask", "_namespace", "plan", "pod", "terminal")

    def __init__(self, pod: Pod, plan: roots.RootPlan, *, interactive: bool) -> None:
        self.pod, self.plan = pod, plan
        self.terminal = supervisor.Terminal(0) if interactive and os.isatty(0) else None
        self._namespace = -1
        process.set_dumpable(False)
        process.set_child_subreaper()
        self._mask = supervisor.Mask()

    def make_root(self, handlers: dict[str, Application]) -> None:
        """Build the root for several programs; RktError also when an event handler cannot be executed."""
        hold, release = os.pipe2(os.O_CLOEXEC)

        def work(report: int) -> None:
            root = self._enter_root(report, hold)
            for name, handler in handlers.items():
                handler.check(root, f"event handler {name}")
            os.close(report)
            os.read(hold, 1)

        try:
            child, fault = self._fork(work)
            if not fault:
                self._namespace = namespaces.open_namespace("mnt", child)
        finally:
            os.close(hold)
            os.close(release)
        os.waitpid(child, 0)
        if fault:
            raise RktError(fault)

    def run(self, app: Application, started: Callable[[], None] | None = None) -> int:
        """Start a program and wait for its end: its wait status.  RktError when it could not be started.

        ``started`` is called when it runs.
        """
        own = os.getpid()

        def work(report: int) -> None:
            if self.terminal is None:
                os.setsid()
            else:
                os.setpgid(0, 0)
                self.terminal.give(os.getpid())
            app.silence()
            app.confinement.set_attributes()
            root = self._enter_root(report)
            self._mask.restore()
            app.execute(root, dies_with=own)

        try:
            child, fault = self._fork(work, self._announce)
            if fault:
                os.waitpid(child, 0)
                raise RktError(fault)
            if started is not None:
                started()
            return supervisor.wait(child, self.terminal)
        finally:
            if self.terminal is not None:
                self.terminal.take_back()

    def _fork(
        self, work: Callable[[int], None], announce: Callable[[int], None] | None = None
    ) -> tuple[int, str]:
        """A child that works, and the fault it met before it closed its report; "" when it met none."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _work(work, writer)
        os.close(writer)
        try:
            if announce is not None:
                announce(child)
            return child, _read_all(reader)
        except BaseException:
            os.kill(child, _SIGKILL)
            raise
        finally:
            os.close(reader)

    def _enter_root(self, *kept: int) -> int:
        """In a child: move into the app's root; returns an fd of it.

        Nothing that was open in the caller, or here, stays open but the descriptors ``kept``.
        """
        close_others(*kept, self._namespace)
        application.seal_imports()
        if self._namespace < 0:
            return roots.enter_new_root(self.plan)
        namespaces.setns(self._namespace, namespaces.CLONE_NEWNS)
        os.close(self._namespace)
        return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _announce(self, child: int) -> None:
        """Write ``pgid`` and ``pid``: a program leads a process group of its own from its first moment on."""
        if self.terminal is not None:
            try:
                os.setpgid(child, child)
                self.terminal.give(child)
            except ProcessLookupError:
                pass
        status.write_pid(self.pod.directory, "pgid", child)
        status.write_pid(self.pod.directory, "pid", child)


def _work(work: Callable[[int], None], report: int) -> None:
    """The child: never returns."""
    try:
        process.set_parent_death_signal(_SIGKILL)
        work(report)
        os._exit(0)
    except (RktError, OSError) as exc:
        os.write(report, one_line(exc).encode("utf-8", "replace"))
    except BaseException as exc:
        os.write(report, f"{type(exc).__name__}: {exc}".encode("utf-8", "replace"))
    finally:
        os._exit(FAILED)


def close_others(*kept: int) -> None:
    """Close every descriptor but the standard ones and these."""
    first = 3
    for fd in sorted(fd for fd in kept if fd >= first):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 1 << 30)


def _read_all(fd: int) -> str:
    data = b""
    while chunk := os.read(fd, 4096):
        data += chunk
    return data.decode("utf-8", "replace")
