"""The one exception a user can cause, and how a chain of causes becomes one line.

Libraries raise; only ``rkt.cli`` prints and exits.  An ``OSError`` comes from the kernel, an
``RktError`` says what rkt was doing when something went wrong, anything else is a defect of rkt.
"""

from __future__ import annotations

import os


class RktError(Exception):
    """Something went wrong that the user can understand and usually mend.

    ``message`` is lower case without a full stop and names the path, image or pod; ``hint`` is an
    optional further line that says what to do.  The cause goes into ``raise ... from``.
    """

    __slots__ = ("hint", "message")

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class Interrupted(RktError):
    """A signal asked this process to end while it still has something to take back.

    Whoever goes on after an RktError must not go on after this one.
    """

    __slots__ = ()


class Context(RktError):
    """What was being done, where the cause alone says enough: printed with ``--debug`` only."""

    __slots__ = ()


def describe(error: BaseException) -> str:
    """One error of a chain in words: ``open /x: no such file or directory`` for a system call's.

    The operation is the attribute ``operation`` where ``rkt.linux`` has set it, else ``open``.
    """
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno)
        if reason[1:2].islower():
            reason = reason[0].lower() + reason[1:]
        if error.filename is None:
            operation = getattr(error, "operation", "")
            return f"{operation}: {reason}" if operation else reason
        operation = getattr(error, "operation", "open")
        # os.listdir and others name a file descriptor
        name = f"fd {error.filename}" if isinstance(error.filename, int) else os.fsdecode(error.filename)
        return f"{operation} {name}: {reason}"
    return str(error) or type(error).__name__


def chain(error: BaseException) -> list[BaseException]:
    """The error and its explicit causes, outermost first."""
    links: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in links:
        links.append(current)
        current = current.__cause__
    return links


def one_line(error: BaseException) -> str:
    """``outermost: innermost``, or the only message there is (facts of rkt: without ``--debug``)."""
    links = [link for link in chain(error) if not isinstance(link, Context) or link.__cause__ is None]
    outer = describe(links[0])
    if len(links) == 1:
        return outer
    return f"{outer}: {describe(links[-1])}"


def tree(error: BaseException) -> list[str]:
    """The whole chain, one line a level, indented by two spaces a level (``--debug``)."""
    lines = []
    for depth, link in enumerate(chain(error)):
        lines.append(describe(link) if depth == 0 else "  " * depth + "└─" + describe(link))
    return lines
