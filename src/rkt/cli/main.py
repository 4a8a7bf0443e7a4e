"""The one place where a call begins and ends: words in, exit code out."""

from __future__ import annotations

import os
import sys

from rkt.cli.grammar import parse, parse_images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def main(argv: list[str]) -> int:
    """Runs one command line and returns its exit code; never exits, never raises.

    Everything that a command raises is printed here.  What it printed has reached the kernel when this
    returns: output that could not be written (a full disk) is a failure like any other.
    """
    open_streams()
    call: Call | None = None
    try:
        call = parse(argv[1:])
        status = run(call)
        call.flush()
    except BaseException as error:
        from rkt.cli.output import report

        return report(error, call, argv[1:])
    return status


def run(call: Call) -> int:
    """Runs a parsed call: checks who is asking, parses its images, calls the command's module."""
    command = call.command
    if not command.module:
        from rkt.cli.help import without_command

        return without_command(call)
    if command.root and os.geteuid() != 0:
        call.error("cannot run as unprivileged user")
        return 254
    if command.images:
        parse_images(call)
    status: int = __import__("rkt.cli." + command.module, fromlist=("run",)).run(call)
    return status


def open_streams() -> None:
    """Makes the standard streams safe to use.

    A closed descriptor 0, 1 or 2 is filled, so that no lock or image ever becomes somebody's stdout; writing
    to it fails as it would have.  Text is UTF-8 whatever the locale, and bytes that are not pass through
    unchanged.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Always the lowest free number, so exactly this one; read-only, so that a write gets EBADF.
            os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC), "w")
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test's stream may have none
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="surrogateescape")
