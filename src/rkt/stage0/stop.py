"""Stop: ask the stage1 of a running pod to end it."""

from __future__ import annotations

from rkt.errors import RktError
from rkt.linux import process
from rkt.stage0.interface import Stage1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.pod.pod import Pod

_SECONDS = 60.0


def stop(pod: Pod, environment: Mapping[str, str], *, force: bool = False) -> None:
    """Send the signal to end a pod; with ``force`` it is killed.  Returns before the pod has ended.

    Standard streams of the stage1's program are this process's own.
    """
    stage1 = Stage1(pod)
    argv = [stage1.nearest_program("stop"), *(["--force"] if force else []), pod.uuid]
    try:
        call(argv, pod, environment)
    except (OSError, RktError) as error:
        raise RktError(f'error stopping pod "{pod.uuid}"') from error


def call(argv: list[str], pod: Pod, environment: Mapping[str, str]) -> None:
    """Run a program of the stage1 to its end in the pod's directory, RktError unless it succeeds."""
    pid = process.spawn(argv, env=environment, stdin=process.DEVNULL, cwd=pod.path)
    try:
        _, status = _wait(pid)
    except BaseException:
        import os

        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    code = process.exit_code(status)
    if code:
        raise RktError(f"{process.quote(argv)} failed with status {code}")


def _wait(pid: int) -> tuple[int, int]:
    """Wait for a child, for a minute: a stage1 that hangs must not hang its caller for ever."""
    import os

    fd = process.pidfd_open(pid)
    try:
        if not process.wait(fd, _SECONDS):
            raise RktError(f"no answer within {_SECONDS:g} seconds")
    finally:
        os.close(fd)
    return os.waitpid(pid, 0)
