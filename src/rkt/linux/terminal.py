"""Pseudo-terminals (pty(7)) of a devpts that need not be the one at /dev/pts, and their size."""

from __future__ import annotations

import os

from rkt.linux import libc

DEVPTS_SUPER_MAGIC = 0x1CD1

_NAME_LENGTH = 64


def open_pair(devpts: int) -> tuple[int, int, str]:
    """A new terminal of the devpts whose root directory is the fd ``devpts``.

    Returns the fds of master and terminal, close-on-exec and not blocking, and the name of the terminal in
    the directory, its number.  It becomes nobody's controlling terminal.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    master = os.open("ptmx", flags, dir_fd=devpts)
    try:
        libc.check(libc.unlockpt(master), "unlockpt")
        buffer = libc.create_string_buffer(_NAME_LENGTH)
        result = libc.ptsname_r(master, buffer, _NAME_LENGTH)
        if result:
            raise OSError(result, os.strerror(result))
        # The C library takes /dev/pts for its directory; the number is the kernel's.
        name = os.path.basename(os.fsdecode(buffer.value))
        return master, os.open(name, flags, dir_fd=devpts), name
    except BaseException:
        os.close(master)
        raise


def get_size(fd: int) -> bytes:
    """The size of a terminal, a ``struct winsize``."""
    import fcntl
    import termios

    return fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(WINSIZE))


def set_size(fd: int, size: bytes) -> None:
    """Give a terminal a size; whoever is in its foreground is told by SIGWINCH.

    ``size`` is a ``struct winsize`` (``WINSIZE`` bytes), and comes from anywhere.
    """
    import fcntl
    import termios

    fcntl.ioctl(fd, termios.TIOCSWINSZ, size)


WINSIZE = 8
"""The length of ``struct winsize``: rows, columns and two unused numbers of 16 bits."""
