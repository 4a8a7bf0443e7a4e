"""Log files as Kubernetes reads them, of streams of mode ``stream`` (facts of rkt: ``k8s-plain``).

Annotations of the pod, or of an app where it has some of its own::

    coreos.com/rkt/experiment/logmode               k8s-plain
    coreos.com/rkt/experiment/kubernetes-log-dir    absolute path of a directory of the host
    coreos.com/rkt/experiment/kubernetes-log-path   path of the file below that directory

A line of the file is ``2006-01-02T15:04:05.999999999Z stdout text``, the time in UTC.
"""

from __future__ import annotations

import os
import stat
import time

from rkt.errors import RktError
from rkt.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.pod import App, Pod

PREFIX = "coreos.com/rkt/experiment/"
PLAIN = "k8s-plain"

# What is longer is written as several lines.
_LINE = 1 << 16
_MODE = 0o640


def open_log(pod: Pod, app: App) -> int | None:
    """The log file of an app, empty and open for appending; None when the pod wants none.

    RktError for annotations that do not say which file, or name one that is no file of that directory.
    """
    mode = _annotation(pod, app, "logmode")
    if mode is None:
        return None
    if mode != PLAIN:
        raise RktError(f'unknown log mode "{mode}": it is {PLAIN}')
    directory, path = (_given(pod, app, f"kubernetes-log-{name}") for name in ("dir", "path"))
    if not directory.startswith("/"):
        raise RktError(f'log directory "{directory}" is not absolute')
    if path.startswith("/") or ".." in path.split("/"):
        raise RktError(f'log file "{path}" is not a path below the log directory')
    try:
        return _open(directory, path)
    except OSError as error:
        raise RktError(f"unable to open log file {os.path.join(directory, path)}") from error


def _open(directory: str, path: str) -> int:
    """Open a file of the host; what lies in the directory may be anybody's."""
    top = paths.open_no_links(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
        fd = paths.open_child(top, path, flags, _MODE)
    finally:
        os.close(top)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise RktError(f"log file {os.path.join(directory, path)} is not a regular file with one name")
        os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _given(pod: Pod, app: App, name: str) -> str:
    value = _annotation(pod, app, name)
    if not value:
        raise RktError(f"log mode {PLAIN} needs the annotation {PREFIX}{name}")
    return value


def _annotation(pod: Pod, app: App, name: str) -> str | None:
    own = app.runtime.annotation(PREFIX + name)
    return own if own is not None else pod.manifest.annotation(PREFIX + name)


class LogStream:
    """Writes what comes from one stream of an app into a log file, line by line."""

    __slots__ = ("_fd", "_label", "_rest")

    def __init__(self, fd: int, name: str) -> None:
        self._fd, self._label = fd, f" {name} ".encode()
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Write the lines that are complete by now, with the time of now."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        while len(self._rest) > _LINE:
            lines.append(self._rest[:_LINE])
            self._rest = self._rest[_LINE:]
        if lines:
            self._append(lines)

    def finish(self) -> None:
        """Write what is left, though its line has no end."""
        if self._rest:
            self._append([self._rest])
            self._rest = b""

    def _append(self, lines: list[bytes]) -> None:
        begin = timestamp(time.time_ns()).encode() + self._label
        try:
            os.write(self._fd, b"".join(begin + line + b"\n" for line in lines))
        except OSError:
            # A full disk: the app goes on without its log, and there is nobody to be told.
            return


def timestamp(nanoseconds: int) -> str:
    """A time since the epoch as RFC 3339 says it, in UTC, without zeros at the end of the fraction."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}{digits}Z"
