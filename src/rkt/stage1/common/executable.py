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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.users import Identity

_HEAD = 4096
_PT_INTERP = 3
_STRING_LIMIT = 128 << 10
_STRINGS_LIMIT = 2 << 20
_POINTER = 8
# e_machine of the programs a kernel executes itself: EM_X86_64 and EM_386, EM_AARCH64 and EM_ARM
_MACHINES = {"x86_64": (62, 3), "aarch64": (183, 40), "i686": (3,)}


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
    where = paths.without_links(root_fd, path, stop="/proc")
    if where == "/proc" or where.startswith("/proc/"):
        raise RktError(f'refusing to execute "{path}": it leads into /proc')


def diagnose(root_fd: int, path: str, user: Identity | None = None) -> str:
    """Why the kernel would refuse to execute ``path``, as rkt words it; "" when nothing seems wrong.

    Looks at the file, its ``#!`` line or its ELF interpreter, and what the mode bits let ``user`` do (by the
    numbers that owners have on the host; None is root).  For explaining what has failed, not for refusing:
    access control lists may permit more, and binfmt_misc executes other formats.
    """
    reason = obstacle(root_fd, path) or _permission(root_fd, path, user)
    if reason:
        return reason
    try:
        head = _read_head(root_fd, path)
    except (OSError, RktError) as error:
        return f'Unable to read "{path}": {error}'
    if head.startswith(b"\x7fELF"):
        machine = _elf_machine(head)
        if machine not in _MACHINES.get(os.uname().machine, (machine,)):
            return f'Unable to execute "{path}": it is a program for another machine (ELF {machine})'
    elif not head.startswith(b"#!"):
        return f'"{path}" is neither a program for this machine nor a script with an interpreter line'
    interpreter = _interpreter(head)
    reason = _permission(root_fd, interpreter, user) if interpreter else ""
    return f'Unable to execute "{path}": its interpreter cannot be used: {reason}' if reason else ""


def overflow(path: str, argv: list[str], environment: list[tuple[str, str]]) -> str:
    """Why the kernel would not take these arguments and variables (execve(2)), "" when it would.

    128 KiB are the limit for each, a quarter of the usual 8 MiB of stack for all with their pointers.
    """
    strings = [*argv, *(f"{name}={value}" for name, value in environment)]
    sizes = [len(os.fsencode(text)) + 1 for text in strings]
    if max(sizes) <= _STRING_LIMIT and sum(sizes) + _POINTER * len(sizes) <= _STRINGS_LIMIT:
        return ""
    return f'Unable to execute "{path}": {os.strerror(errno.E2BIG)}'


def obstacle(root_fd: int, path: str) -> str:
    """Why nobody could execute ``path``: it or its interpreter is missing or not executable; "" if not so."""
    reason = _check_program(root_fd, path)
    if reason:
        return reason
    try:
        head = _read_head(root_fd, path)
    except (OSError, RktError) as error:
        return f'Unable to read "{path}": {error}'
    interpreter = _interpreter(head)
    if not interpreter:
        return f'"{path}" has an empty interpreter line' if head.startswith(b"#!") else ""
    try:
        refuse_proc(root_fd, interpreter)
    except RktError as error:
        return error.message
    reason = _check_program(root_fd, interpreter)
    return f'Unable to execute "{path}": its interpreter is missing: {reason}' if reason else ""


def _interpreter(head: bytes) -> str:
    """What the kernel executes instead of a script, or before a program; "" for nothing."""
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        return os.fsdecode(words[0]) if words else ""
    return elf_interpreter(head) if head.startswith(b"\x7fELF") else ""


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
    denied = f'Unable to execute "{path}": {os.strerror(errno.EACCES)}'
    if not stat.S_ISREG(mode):
        return f"{denied}, it is no regular file"
    return "" if mode & 0o111 else f"{denied}, it has no execute permission"


def _permission(root_fd: int, path: str, user: Identity | None) -> str:
    """Which directory, or else the file, a user may not search or execute; None is root, who may."""
    if user is None:
        return ""
    denied = f'Unable to execute "{path}": {os.strerror(errno.EACCES)}'
    parts = paths.without_links(root_fd, path).split("/")
    for position in range(1, len(parts) + 1):
        name = "/".join(parts[:position]) or "/"
        try:
            fd = paths.open_in_root(root_fd, name, os.O_PATH)
        except OSError:
            return ""
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid in (user.gid, *user.groups) else 0
        if not status.st_mode >> shift & 1:
            what = "execute it" if position == len(parts) else f"search {name}"
            return f"{denied}, the user of the app may not {what}"
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


def _elf_machine(head: bytes) -> int:
    return int.from_bytes(head[18:20], "little" if head[5:6] == b"\1" else "big")


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
