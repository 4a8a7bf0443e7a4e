"""The worker's own side: reads the request, imports, confines itself, runs the task, answers, ends."""

from __future__ import annotations

import os
import select
import sys
from fcntl import F_GETFL, F_SETFL, F_SETOWN, FASYNC, fcntl

from rkt.store.confined import answers, confinement, tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REQUEST, _ANSWER = 0, 1
_LENGTH = 16
_F_SETSIG = 10
_SIGKILL = 9


def main() -> None:
    """Never returns.  Whatever goes wrong becomes an answer."""
    missing: list[str] = []
    try:
        answer = answers.encode_result(_run(_request(), missing), missing)
    except BaseException as error:
        answer = answers.encode_error(error, missing)
    try:
        while answer:
            answer = answer[os.write(_ANSWER, answer) :]
    finally:
        os._exit(0)


def _request() -> dict[str, Any]:
    from rkt.appc import gojson

    data = _read(int(_read(_LENGTH), 16))
    end_with(_REQUEST)
    request: dict[str, Any] = gojson.loads(data)
    return request


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(_REQUEST, size - len(data))
        if not chunk:
            os._exit(1)
        data += chunk
    return data


def end_with(fd: int) -> None:
    """Have the kernel kill this process when the other end of the pipe ``fd`` is closed.

    Unlike PR_SET_PDEATHSIG, which means the thread that started this process, not its parent.
    """
    fcntl(fd, F_SETOWN, os.getpid())
    fcntl(fd, _F_SETSIG, _SIGKILL)
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | FASYNC)
    poll = select.poll()
    poll.register(fd, 0)
    if poll.poll(0):
        # It was closed before the kernel was asked.
        os._exit(1)


def _run(request: dict[str, Any], missing: list[str]) -> dict[str, object]:
    task, arguments, fds = request["task"], request["arguments"], request["fds"]
    profile = tasks.TASKS[task]
    name, _, function = f"rkt.store.{task}".partition(":")
    __import__(name)
    module = sys.modules[name]
    prepare = getattr(module, "prepare", None)
    if prepare is not None:
        prepare(arguments)
    missing += confinement.confine(fds, trees=profile == tasks.TREES)
    result: dict[str, object] = getattr(module, function)(arguments, fds)
    return result
