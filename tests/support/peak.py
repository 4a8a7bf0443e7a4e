"""The peak of resident memory of a command, with all that it starts.

Linux counts the memory of who starts a program into the program's own peak: that has to be something small,
which no test runner is.
"""

from __future__ import annotations

from typing import IO

_MEASURE = """
import os, sys
to, *argv = sys.argv[1:]
pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_CLOSE, int(to))])
_, status, usage = os.wait4(pid, 0)
os.write(int(to), b"%d" % usage.ru_maxrss)
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""


def measuring(argv: list[str], to: IO[bytes]) -> list[str]:
    """A command that runs ``argv`` and leaves its peak in a file, whose descriptor has to be passed on.

    It exits as the command does, 128 + N for signal N.
    """
    return ["/usr/bin/python3", "-IS", "-c", _MEASURE, str(to.fileno()), *argv]


def read(file: IO[bytes]) -> int:
    """The peak in bytes, once the command has ended."""
    file.seek(0)
    return int(file.read()) << 10
