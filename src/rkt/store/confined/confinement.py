"""What a worker gives up before it reads its first byte from outside.

====================  ====================================================================================
no_new_privs          no program it could start would have more rights
not dumpable          nobody but root traces it or reads its memory
fds                   those of the task, and the pipes of request and answer
jail (root, trees)    directories become mounts of its own without devices, set-user-ID and programs, and
                      the root directory an empty one: no path, ``..`` or link leads anywhere else
limits                memory, size of a file, open files, no core
capabilities          none; with trees those of unpacking, none of which reaches out of the jail
Landlock              files below the task's directories, no others; no ports, no signals to others
seccomp               a list of calls; all others fail with EPERM: no sockets, no exec, no new process, no
                      mounts, no namespaces, no tracing, no keys, no signals
====================  ====================================================================================

An ordinary user has no jail, nor has root in a container without CAP_SYS_ADMIN.  Landlock does not govern
modes, owners, times and attributes; so the list has calls that take an fd for them, which only a file below
the directories gives.  What is left by path are times, and, for that root, owners.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from rkt.errors import RktError
from rkt.linux import capabilities, landlock, mount, process, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY = 4 << 30
"""Bytes of address space.  Decoders may want 256 MiB, a million names about as much."""
FILE_SIZE = 1 << 40
OPEN_FILES = 1024

# DAC_OVERRIDE: directories of a tree belong to its users by the time others are put into them.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP")

_STREAM_CALLS = """\
brk clock_getres clock_gettime clock_nanosleep close exit exit_group fdatasync fstat fsync futex getegid
geteuid getgid getpid getppid getrandom getresgid getresuid gettid gettimeofday getuid lseek madvise
membarrier mmap mprotect mremap munmap nanosleep newfstatat poll ppoll pread64 preadv pwrite64 pwritev
read readv restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield
set_robust_list sigaltstack sync_file_range write writev
"""
_TREE_CALLS = """\
copy_file_range fadvise64 fallocate fchmod fchown fchownat fgetxattr flistxattr fremovexattr fsetxattr
ftruncate getdents64 linkat mkdirat mknodat openat openat2 readlinkat renameat renameat2 statx symlinkat
unlinkat utimensat
"""
# By path, and not governed by Landlock.
_JAIL_CALLS = "chmod fchmodat"
_CLONE_THREAD = 0x10000
# Duplicating and asking; F_SETOWN and O_ASYNC would have the kernel send signals.
_FCNTL = (0, 1, 2, 3, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_IOCTL = (0x40049409, 0x4020940D)  # FICLONE, FICLONERANGE


def confine(fds: Sequence[int], *, trees: bool) -> list[str]:
    """Give up everything but the ``fds``; with ``trees`` also what lies below the directories among them.

    For good, and for this process, which has one thread.  Returns what this kernel, or a container around
    rkt, does not allow to give up, in words.  Directories keep their numbers but are new descriptions.
    """
    missing: list[str] = []
    _import_tables()
    directories = [fd for fd in fds if stat.S_ISDIR(os.fstat(fd).st_mode)]
    capabilities.set_no_new_privileges()
    process.set_dumpable(False)
    os.umask(0)
    _close_others(fds)
    jailed = trees and os.geteuid() == 0 and _jail(directories, missing)
    _set_limits()
    _drop_capabilities(_CAPABILITIES if trees else ())
    _restrict_paths(directories, missing)
    _filter_calls(_calls(trees=trees, jailed=jailed), missing)
    return missing


def _close_others(fds: Sequence[int]) -> None:
    last = 2
    for fd in sorted(fds):
        os.closerange(last + 1, fd)
        last = max(last, fd)
    os.closerange(last + 1, 1 << 30)


def _jail(directories: Sequence[int], missing: list[str]) -> bool:
    attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
    try:
        for fd in directories:
            clone = mount.clone(fd, recursive=False, set=attributes)
            try:
                inside = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=clone)
            finally:
                os.close(clone)
            os.dup2(inside, fd, inheritable=False)
            os.close(inside)
        empty = mount.new_mount("tmpfs", attributes=attributes | mount.MOUNT_ATTR_RDONLY)
        try:
            os.fchdir(empty)
            os.chroot(".")
        finally:
            os.close(empty)
    except OSError as error:
        missing.append(f"workers have no root directory of their own: {error.strerror}")
        return False
    return True


def _set_limits() -> None:
    for name, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(name)
        lower = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(name, (lower, lower))


def _drop_capabilities(names: Sequence[str]) -> None:
    effective, permitted, _ = capabilities.get_capabilities()
    keep = permitted & {capabilities.NUMBERS["CAP_" + name] for name in names}
    if capabilities.NUMBERS["CAP_SETPCAP"] in effective:
        capabilities.drop_bounding(keep)
    if permitted:
        capabilities.clear_ambient()
    capabilities.set_capabilities(keep, keep, ())


def _restrict_paths(directories: Sequence[int], missing: list[str]) -> None:
    try:
        if not landlock.restrict(directories):
            missing.append("workers are not under Landlock: the kernel has none, or only its first version")
    except OSError as error:
        missing.append(f"workers are not under Landlock: {error.strerror}")


def _import_tables() -> None:
    """Later nothing can be imported."""
    try:
        seccomp.is_known("read")
    except RktError:
        # There are none for this architecture; loading the filter says so.
        pass


def _calls(*, trees: bool, jailed: bool) -> dict[str, list[list[seccomp.Comparison]] | None]:
    """The system calls that are allowed; a call with conditions if one alternative holds."""
    words = _STREAM_CALLS + (_TREE_CALLS if trees else "") + (_JAIL_CALLS if jailed else "")
    calls: dict[str, list[list[seccomp.Comparison]] | None] = dict.fromkeys(words.split())
    calls["clone"] = [[seccomp.Comparison(0, "&", _CLONE_THREAD, _CLONE_THREAD)]]
    calls["fcntl"] = [[seccomp.Comparison(1, "&", command, 0xFFFFFFFF)] for command in _FCNTL]
    if trees:
        calls["ioctl"] = [[seccomp.Comparison(1, "==", number)] for number in _IOCTL]
    return calls


def _filter_calls(calls: dict[str, list[list[seccomp.Comparison]] | None], missing: list[str]) -> None:
    try:
        program = seccomp.compile_filter(
            calls,
            allow=True,
            action=seccomp.refuse(errno.EPERM),
            conditions={name: conditions for name, conditions in calls.items() if conditions is not None},
            # The C library goes on with clone(2), whose flags can be looked at.
            exceptions={"clone3": seccomp.refuse(errno.ENOSYS)},
            native=True,
        )
        seccomp.load(program)
    except RktError as error:
        missing.append(f"workers have no filter of system calls: {error}")
    except OSError as error:
        missing.append(f"workers have no filter of system calls: {error.strerror}")
