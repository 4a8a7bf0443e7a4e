"""Processes: starting them in one place, and asking the kernel about them.

A child gets an argument list, an explicit environment and only the fds named; no shell is involved.
Signals Python ignores (SIGPIPE, SIGXFSZ) have their default effect again in the child.
"""

from __future__ import annotations

import os
import select
import time

from rkt.errors import RktError
from rkt.linux.failure import named, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLEAN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""What a helper program gets unless told otherwise: nothing of the caller's environment."""

DEVNULL = -3
"""For stdin, stdout and stderr: /dev/null."""

_SIGKILL = 9
_DEFAULT_SIGNALS = (13, 25)  # SIGPIPE, SIGXFSZ: importing ``signal`` costs 4 ms
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")
_OUTPUT_LIMIT = 64 << 20
_ARGUMENTS = 45  # of the fields of /proc/PID/stat after the name: arg_start, then arg_end


class Completed:
    """How a program ended: ``status`` is its exit code or 128 + signal; output as bytes."""

    __slots__ = ("argv", "status", "stderr", "stdout")

    def __init__(self, argv: list[str], status: int, stdout: bytes, stderr: bytes) -> None:
        self.argv = argv
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


def quote(argv: list[str]) -> str:
    """A command as it can be typed into a shell again."""
    words = []
    for word in argv:
        plain = word and all(letter in _PLAIN for letter in word)
        words.append(word if plain else "'" + word.replace("'", "'\"'\"'") + "'")
    return " ".join(words)


def spawn(
    argv: list[str],
    *,
    env: Mapping[str, str],
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    group: bool = False,
) -> int:
    """Start a program and return its pid; a name without ``/`` is searched in this process's PATH.

    stdin, stdout, stderr are an fd, ``DEVNULL`` or None (this process's own); ``pass_fds`` keep their
    numbers; with ``group`` it leads a process group of its own (not with ``cwd``).  Raises the OSError of
    exec, naming the program.
    """
    if cwd is not None:
        return _fork(argv, env, (stdin, stdout, stderr), pass_fds=pass_fds, cwd=cwd)
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    for target, source in enumerate((stdin, stdout, stderr)):
        if source == DEVNULL:
            actions.append((os.POSIX_SPAWN_OPEN, target, "/dev/null", os.O_RDWR, 0))
        elif source is not None:
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
    # dup2 of an fd onto itself makes it survive exec (glibc 2.29).
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in pass_fds]
    return start(argv, env, actions, group=group)


def start(
    argv: list[str],
    env: Mapping[str, str],
    actions: Sequence[tuple[int, int, int] | tuple[int, int, str, int, int]],
    *,
    group: bool = False,
) -> int:
    """``spawn`` with ``file_actions`` of os.posix_spawn, for children whose fds get numbers of their own."""
    function = os.posix_spawn if "/" in argv[0] else os.posix_spawnp
    try:
        if group:
            return function(argv[0], argv, env, file_actions=actions, setsigdef=_DEFAULT_SIGNALS, setpgroup=0)
        return function(argv[0], argv, env, file_actions=actions, setsigdef=_DEFAULT_SIGNALS)
    except OSError as error:
        raise named(error, "exec", argv[0]) from None


def _fork(
    argv: list[str],
    env: Mapping[str, str],
    standard: tuple[int | None, int | None, int | None],
    *,
    pass_fds: Sequence[int],
    cwd: str,
) -> int:
    """posix_spawn cannot change the directory before glibc 2.29's extension, which Python lacks."""
    import _signal  # type: ignore[import-not-found]

    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            for number in _DEFAULT_SIGNALS:
                _signal.signal(number, 0)
            for target, source in enumerate(standard):
                if source is not None:
                    fd = os.open("/dev/null", os.O_RDWR) if source == DEVNULL else source
                    os.dup2(fd, target)
                    os.set_inheritable(target, True)
            for fd in pass_fds:
                os.set_inheritable(fd, True)
            os.chdir(cwd)
            if "/" in argv[0]:
                os.execve(argv[0], argv, env)
            os.execvpe(argv[0], argv, env)
        except OSError as error:
            os.write(writer, b"%d" % (error.errno or 0))
        finally:
            os._exit(127)
    os.close(writer)
    try:
        report = os.read(reader, 32)
    finally:
        os.close(reader)
    if report:
        os.waitpid(pid, 0)
        raise os_error(int(report), "exec", argv[0])
    return pid


def run(
    argv: list[str],
    *,
    env: Mapping[str, str] = CLEAN_ENVIRONMENT,
    input: bytes | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    timeout: float = 60.0,
    check: bool = True,
    limit: int = _OUTPUT_LIMIT,
    group: bool = False,
) -> Completed:
    """Run a program to its end and collect its output.

    ``input`` is its standard input (None: /dev/null), ``stderr`` an fd instead of collecting it,
    ``timeout`` in seconds, ``limit`` the most bytes of output.  With ``check`` an exit code other than
    0 is an RktError that quotes the program's last line of error and the command.  On the time limit, or
    any other exception, the program is killed, with ``group`` also what it started itself (but what has both
    left its process group and lost its parent); only the program is waited for.
    """
    out_reader, out_writer = os.pipe2(os.O_CLOEXEC)
    err_reader, err_writer = os.pipe2(os.O_CLOEXEC) if stderr is None else (-1, stderr)
    in_reader, in_writer = os.pipe2(os.O_CLOEXEC) if input is not None else (DEVNULL, -1)
    try:
        pid = spawn(
            argv,
            env=env,
            stdin=in_reader,
            stdout=out_writer,
            stderr=err_writer,
            pass_fds=pass_fds,
            cwd=cwd,
            group=group,
        )
    except BaseException:
        _close(out_reader, err_reader, in_writer)
        raise
    finally:
        _close(out_writer, err_writer if stderr is None else -1, in_reader)
    collector = _Collector(argv, (out_reader, err_reader, in_writer), input or b"")
    try:
        status = collector.collect(pid, time.monotonic() + timeout, limit=limit, group=group)
    finally:
        _close(*collector.open_fds)
    done = Completed(argv, status, bytes(collector.stdout), bytes(collector.stderr))
    if check and status:
        raise failure(done)
    return done


def failure(done: Completed) -> RktError:
    """The error of a program that ended badly: how, its last words, and the command to replay."""
    ending = f"was killed by signal {done.status - 128}" if done.status > 128 else f"exited {done.status}"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    words = f": {lines[-1].strip()}" if lines else ""
    return RktError(f"{os.path.basename(done.argv[0])} {ending}{words}", hint=f"command: {quote(done.argv)}")


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


class _Collector:
    """Feeds and drains the pipes of one child until it has ended."""

    __slots__ = ("argv", "input", "open_fds", "stderr", "stdout", "streams", "writer")

    def __init__(self, argv: list[str], fds: tuple[int, int, int], input: bytes) -> None:
        out_reader, err_reader, self.writer = fds
        self.argv = argv
        self.open_fds = {fd for fd in fds if fd >= 0}
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.streams = {out_reader: self.stdout, err_reader: self.stderr}
        self.input = memoryview(input)
        for fd in self.open_fds:
            os.set_blocking(fd, False)

    def collect(self, pid: int, deadline: float, *, limit: int, group: bool) -> int:
        pidfd = os.pidfd_open(pid)
        waited = False
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            for fd in self.open_fds:
                poll.register(fd, select.POLLOUT if fd == self.writer else select.POLLIN)
            ended = False
            while not ended:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise RktError(
                        f"{os.path.basename(self.argv[0])} did not end in time",
                        hint=f"command: {quote(self.argv)}",
                    )
                for fd, _ in poll.poll(left * 1000):
                    if fd == pidfd:
                        ended = True
                    elif not self._move(fd):
                        poll.unregister(fd)
                        os.close(fd)
                        self.open_fds.discard(fd)
                if len(self.stdout) + len(self.stderr) > limit:
                    raise RktError(f"{os.path.basename(self.argv[0])} wrote more than {limit} bytes")
            # What it wrote last is still in the pipes; its own children may keep them open for ever.
            for fd in self.open_fds & set(self.streams):
                while self._move(fd) and len(self.stdout) + len(self.stderr) <= limit:
                    if not select.select([fd], [], [], 0)[0]:
                        break
            waited = True
            return exit_code(os.waitpid(pid, 0)[1])
        finally:
            if not waited:
                _kill(pid, group=group)
                os.waitpid(pid, 0)
            os.close(pidfd)

    def _move(self, fd: int) -> bool:
        """Move what is ready; False when the pipe is at its end."""
        try:
            if fd == self.writer:
                self.input = self.input[os.write(fd, self.input[:65536]) :] if self.input else self.input
                return bool(self.input)
            data = os.read(fd, 65536)
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        self.streams[fd] += data
        return bool(data)


def _kill(pid: int, *, group: bool) -> None:
    """Kill a child of ours, with ``group`` its process group and all its descendants."""
    others = descendants(pid) if group else []
    os.kill(-pid if group else pid, _SIGKILL)
    for other in others:
        try:
            os.kill(other, _SIGKILL)
        except ProcessLookupError:
            continue


def exit_code(status: int) -> int:
    """The exit code of a wait status, 128 + signal for a process killed by one, as shells say it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def children(pid: int) -> list[int]:
    """The children of a process (of all its threads); empty when it is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(int(word) for word in file.read().split())
        except FileNotFoundError:
            if not os.path.exists("/proc/thread-self/children"):
                return _children_by_parent(pid)
        except ProcessLookupError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    found = children(pid)
    for child in found:
        found.extend(children(child))
    return found


def _children_by_parent(pid: int) -> list[int]:
    """For kernels without CONFIG_PROC_CHILDREN."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat_fields(int(name))
            if fields and int(fields[1]) == pid:
                found.append(int(name))
    return found


def _stat_fields(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the command name, which may hold blanks and parentheses."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is none.

    Pid and start time together name a process for good, a pid alone is used again.
    """
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None


_LIMIT_NAMES = {
    "Max cpu time": "RLIMIT_CPU",
    "Max file size": "RLIMIT_FSIZE",
    "Max data size": "RLIMIT_DATA",
    "Max stack size": "RLIMIT_STACK",
    "Max core file size": "RLIMIT_CORE",
    "Max resident set": "RLIMIT_RSS",
    "Max processes": "RLIMIT_NPROC",
    "Max open files": "RLIMIT_NOFILE",
    "Max locked memory": "RLIMIT_MEMLOCK",
    "Max address space": "RLIMIT_AS",
    "Max pending signals": "RLIMIT_SIGPENDING",
    "Max msgqueue size": "RLIMIT_MSGQUEUE",
    "Max nice priority": "RLIMIT_NICE",
    "Max realtime priority": "RLIMIT_RTPRIO",
    "Max realtime timeout": "RLIMIT_RTTIME",
}


def limits(pid: int) -> dict[int, tuple[int, int]]:
    """The resource limits of a process: (soft, hard) by the number of the ``resource`` module.

    Read from /proc: prlimit(2) on another user's process needs CAP_SYS_RESOURCE, which root may lack.
    """
    import resource

    found = {}
    with open(f"/proc/{pid}/limits") as file:
        for line in file:
            number = getattr(resource, _LIMIT_NAMES.get(line[:26].rstrip(), ""), None)
            if number is not None:
                soft, hard = line[26:].split()[:2]
                values = [
                    resource.RLIM_INFINITY if word == "unlimited" else int(word) for word in (soft, hard)
                ]
                found[number] = (values[0], values[1])
    return found


def blocks(pid: int, signal: int) -> bool:
    """Whether a process has blocked a signal, so that it stays pending; False when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"SigBlk:"):
                    return bool(int(line.split()[1], 16) >> (signal - 1) & 1)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended (a zombie has)."""
    fields = _stat_fields(pid)
    return bool(fields) and fields[0] not in (b"Z", b"X")


def pidfd_open(pid: int) -> int:
    """An fd that is this process and no later one with its pid; ready to read when it has ended."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise named(error, "pidfd_open", str(pid)) from None


def pidfd_send_signal(fd: int, signal: int) -> None:
    """Signal the process of a pidfd."""
    import _signal

    _signal.pidfd_send_signal(fd, signal)


def wait(fd: int, timeout: float | None = None) -> bool:
    """Wait until the process of a pidfd has ended, at most ``timeout`` seconds; whether it has."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def wait_any(fds: tuple[int, ...]) -> None:
    """Wait until the process of one of these pidfds has ended."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll()


def kill_marked(mark: bytes, timeout: float) -> None:
    """Kill all processes whose environment has the entry ``mark`` (``NAME=VALUE``), whoever started them,
    and wait until they have ended, at most ``timeout`` seconds for each."""
    killed = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            fd = os.pidfd_open(int(name))
        except OSError:
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                marked = mark in file.read().split(b"\0")
            if marked:
                pidfd_send_signal(fd, _SIGKILL)
                killed.append(fd)
                continue
        except OSError:  # it has ended meanwhile
            pass
        os.close(fd)
    for fd in killed:
        wait(fd, timeout)
        os.close(fd)


def _prctl(option: int, value: int) -> None:
    from rkt.linux import libc

    libc.check(libc.prctl(option, value, 0, 0, 0), "prctl")


def set_dumpable(dumpable: bool) -> None:
    """Whether others with the same user may trace this process and open its /proc/PID/exe, mem, fd.

    Set to False before joining a pod's namespaces (CVE-2016-9962); exec resets it.
    """
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def set_parent_death_signal(signal: int) -> None:
    """The signal this process gets when the thread that made it ends; 0 for none."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def set_child_subreaper(subreaper: bool = True) -> None:
    """Orphaned descendants become children of this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(subreaper))


def set_name(name: str) -> None:
    """The command name of this thread, cut to 15 bytes."""
    from rkt.linux import libc

    buffer = libc.create_string_buffer(os.fsencode(name)[:15])
    _prctl(_PR_SET_NAME, libc.addressof(buffer))


def set_title(title: str) -> None:
    """What /proc/PID/cmdline shows of this process instead of the words it was started with.

    These may hold what is not for everybody to see.  The title is cut to their length.
    """
    fields = _stat_fields(os.getpid())
    start, end = int(fields[_ARGUMENTS]), int(fields[_ARGUMENTS + 1])
    data = os.fsencode(title)[: end - start - 1].ljust(end - start, b"\0")
    fd = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, start)
    finally:
        os.close(fd)
