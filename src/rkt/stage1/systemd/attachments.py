"""What an app's streams are when somebody can attach to them: names in the pod, and options of its units.

In ``/rkt/iottymux/APP`` of the pod, which no app sees, there are

* ``stage2-stdin``, ``-stdout``, ``-stderr``: the FIFO of each stream of mode ``stream``;
* ``stage2-pts``: the terminal of the app, if a stream has mode ``tty``;
* ``sock-stdin`` ... and ``sock-tty``: sockets on which the multiplexer listens (``multiplexer``);
* ``sock-winsize``: takes the size of an attached terminal, a ``struct winsize`` (ioctl_tty(2)) a datagram;
* ``endpoints``: what there is to attach to, as JSON;
* ``ended``: a FIFO that is opened and closed when the app has ended.
"""

from __future__ import annotations

from rkt.stage1.common import streams

DIRECTORY = "rkt/iottymux"
"""Below stage1's root."""

ENDED = "ended"
TERMINAL = "stage2-pts"
ENDPOINTS = "endpoints"
WINDOW = "sock-winsize"
TTY = "tty"
"""The name of the endpoint of a terminal; the others are called like the streams."""

_OPTIONS = (("stdin", "StandardInput"), ("stdout", "StandardOutput"), ("stderr", "StandardError"))


def fifo(stream: str) -> str:
    """The file name of a stream's FIFO."""
    return f"stage2-{stream}"


def socket(endpoint: str) -> str:
    """The file name of the socket to attach by."""
    return f"sock-{endpoint}"


def directory(app: str) -> str:
    """The directory of an app, a path in the pod."""
    return f"/{DIRECTORY}/{app}"


def attached(modes: dict[str, str]) -> list[str]:
    """The names of the streams that can be attached to."""
    return [name for name, mode in modes.items() if mode in streams.ATTACHED]


def endpoints(modes: dict[str, str]) -> list[str]:
    """What there is to attach to: streams one by one, and the terminal."""
    found = [name for name in streams.NAMES if modes[name] == streams.STREAM]
    return [*found, TTY] if streams.TTY in modes.values() else found


def options(app: str, modes: dict[str, str], *, handler: bool = False) -> list[tuple[str, str]]:
    """The streams of an app as options of a unit.

    Those of an event ``handler`` lead to the journal where the app's are attached to: nobody but the app
    opens a FIFO or has the terminal.
    """
    if streams.INTERACTIVE in modes.values():
        return [*((option, "tty") for _, option in _OPTIONS), ("TTYPath", "/dev/console")]
    made = []
    for name, option in _OPTIONS:
        mode = modes[name]
        if handler and mode in streams.ATTACHED:
            mode = streams.NULL if name == "stdin" else streams.LOG
        if mode == streams.LOG:
            mode = "journal+console"
        elif mode == streams.STREAM:
            mode = f"file:{directory(app)}/{fifo(name)}"
        made.append((option, mode))
    if streams.TTY in modes.values() and not handler:
        made.append(("TTYPath", f"{directory(app)}/{TERMINAL}"))
    return [*made, ("SyslogIdentifier", app)]
