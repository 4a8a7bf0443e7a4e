"""Finding an app's program in its root file system, and saying why it cannot be executed.

Look-up as execvp(3) (appc specification, "exec").  All paths are resolved inside the root; nothing is
executed here and nothing of the host can be named.
"""

from __future__ import annotations

import errno
import os
import stat

from rkt.errors import RktError
from rkt.linux import paths

_LINKS = 40
_HEAD = 4096
_PT_INTERP = 3


def find(root_fd: int, name: str, *, search_path: str | None, working_directory: str) -> str:
    """The absolute path, links unresolved, that ``exec[0]`` means.

    An absolute name is taken as it is, so that a missing one fails when the app starts; a name with a
    slash is relative to the working directory; any other is searched in ``search_path`` (None: the
    working directory, /bin, /usr/bin).  RktError when the search finds nothing, or when the path leads
    through /proc, whose links point out of the image (``/proc/1/root``, ``/proc/self/exe``).
    """
    if not name:
        raise RktError("the app has no exec")
    if "/" in name:
        path = os.path.join(working_directory, name)
    else:
        path = _search(root_fd, name, search_path, working_directory)
    refuse_proc(root_fd, path)
    return path


def _search(root_fd: int, name: str, search_path: str | None, working_directory: str) -> str:
    if search_path is None:
        directories = [working_directory, "/bin", "/usr/bin"]
    else:
        directories = [os.path.join(working_directory, entry) for entry in search_path.split(":")]
    for directory in directories:
        path = os.path.join(directory, name)
        if _is_executable(root_fd, path):
            return path
    tried = ":".join(directories)
    raise RktError(f'error looking up "{name}": unable to find "{name}" in "{tried}"')


def _is_executable(root_fd: int, path: str) -> bool:
    try:
        fd = paths.open_in_root(root_fd, path, os.O_PATH)
    except OSError:
        return False
    try:
        mode = os.fstat(fd).st_mode
    finally:
        os.close(fd)
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def refuse_proc(root_fd: int, path: str) -> None:
    """RktError when ``path``, its links followed, lies in the root's /proc.

    At run time procfs is mounted there, and the process that is about to execute the app is still the
    supervisor's program: the image must not be able to name it.
    """
    where = _resolve(root_fd, path)
    if where == "/proc" or where.startswith("/proc/"):
        raise RktError(f'refusing to execute "{path}": it leads into /proc')


def _resolve(root_fd: int, path: str) -> str:
    """``path`` without links as far as it exists; the first component in /proc ends the walk."""
    waiting = path.split("/")[::-1]
    where: list[str] = []
    links = 0
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if name == "..":
            del where[-1:]
            continue
        candidate = "/" + "/".join([*where, name])
        if candidate == "/proc":
            return candidate
        target = _read_link(root_fd, candidate)
        if target is None:
            where.append(name)
            continue
        links += 1
        if links > _LINKS:
            raise RktError(f'too many links in "{path}"')
        if target.startswith("/"):
            where.clear()
        waiting.extend(target.split("/")[::-1])
    return "/" + "/".join(where)


def _read_link(root_fd: int, path: str) -> str | None:
    try:
        fd = paths.open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            return None
        return os.readlink("", dir_fd=fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def diagnose(root_fd: int, path: str) -> str:
    """Why the kernel would refuse to execute ``path``, as rkt words it; "" when nothing seems wrong.

    Looks at the file, its ``#!`` line or its ELF interpreter.
    """
    reason = _check_program(root_fd, path)
    if reason:
        return reason
    try:
        head = _read_head(root_fd, path)
    except (OSError, RktError) as error:
        return f'Unable to read "{path}": {error}'
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        if not words:
            return f'"{path}" has an empty interpreter line'
        interpreter = os.fsdecode(words[0])
    elif head.startswith(b"\x7fELF"):
        interpreter = elf_interpreter(head)
        if not interpreter:
            return ""
    else:
        return f'"{path}" is neither a program for this machine nor a script with an interpreter line'
    try:
        refuse_proc(root_fd, interpreter)
    except RktError as error:
        return error.message
    reason = _check_program(root_fd, interpreter)
    return f'Unable to execute "{path}": its interpreter is missing: {reason}' if reason else ""


def _check_program(root_fd: int, path: str) -> str:
    try:
        fd = paths.open_in_root(root_fd, path, os.O_PATH)
    except OSError as error:
        return f'Unable to open "{path}": {os.strerror(error.errno or errno.EIO)}'
    try:
        mode = os.fstat(fd).st_mode
    finally:
        os.close(fd)
    if stat.S_ISDIR(mode):
        return f'Unable to execute "{path}": {os.strerror(errno.EISDIR)}'
    if not stat.S_ISREG(mode) or not mode & 0o111:
        return f'Unable to execute "{path}": {os.strerror(errno.EACCES)}'
    return ""


def _read_head(root_fd: int, path: str) -> bytes:
    probe = paths.open_in_root(root_fd, path, os.O_PATH)
    try:
        if not stat.S_ISREG(os.fstat(probe).st_mode):
            raise RktError(f"{path} is not a regular file")
        fd = paths.reopen(probe, os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(probe)
    try:
        return os.read(fd, _HEAD)
    finally:
        os.close(fd)


def elf_interpreter(head: bytes) -> str:
    """The dynamic loader an ELF file asks for (PT_INTERP); "" for a static one or a damaged header."""
    wide, order = head[4:5] == b"\2", "little" if head[5:6] == b"\1" else "big"

    def number(offset: int, size: int) -> int:
        return int.from_bytes(head[offset : offset + size], "big" if order == "big" else "little")

    table = number(32, 8) if wide else number(28, 4)
    size, count = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
    for index in range(min(count, 64)):
        entry = table + index * size
        if entry + size > len(head) or number(entry, 4) != _PT_INTERP:
            continue
        offset = number(entry + 8, 8) if wide else number(entry + 4, 4)
        length = number(entry + 32, 8) if wide else number(entry + 16, 4)
        return os.fsdecode(head[offset : offset + length].split(b"\0", 1)[0])
    return ""
