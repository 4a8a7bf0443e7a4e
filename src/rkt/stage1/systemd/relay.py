"""The attached side: standard streams to and from the sockets of an app, until it ends or the user leaves.

Input for a terminal comes from a terminal as it is typed, ^C included, and ``DETACH`` three times leaves.
From anything else, and for streams, it is copied as it is read, and its end does not end the app's input.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module ``signal`` costs 4 ms for its enums
import _socket
import errno
import os
from select import POLLIN, POLLOUT, poll

from rkt.errors import RktError
from rkt.linux import files, terminal
from rkt.stage1.systemd import attachments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.stage1.systemd.attach import Choice

DETACH = b"\x1d"
"""Ctrl-], which three times in a row detaches."""

_TIMES = 3
_CHUNK = 1 << 16
_STDIN, _STDOUT, _STDERR = range(3)

# Who has said something on these is told when he is dropped (``multiplexer``).
_TOLD = ("stdout", "stderr")
_HELLO = b"\0"


class Relay:
    """One attachment; ``place`` is the directory of the sockets, ``has_ended`` tells whether the app has."""

    __slots__ = (
        "_choice",
        "_connections",
        "_has_ended",
        "_input",
        "_lost",
        "_place",
        "_presses",
        "_raw",
        "_unsent",
        "_waker",
    )

    def __init__(self, place: int, choice: Choice, has_ended: Callable[[], bool]) -> None:
        self._place, self._choice, self._has_ended = place, choice, has_ended
        self._connections: dict[str, _socket.socket] = {}
        self._input = bool(choice.sends)
        self._unsent = b""
        self._lost = False
        self._presses = 0
        self._raw = choice.sends == attachments.TTY and os.isatty(_STDIN)
        self._waker = -1

    def run(self) -> int:
        """Copy until one of the ends; the exit code."""
        for name in {*self._choice.receives, self._choice.sends} - {""}:
            self._connections[name] = self._connect(name)
        if not self._raw:
            return self._copy()
        import termios
        from tty import setraw

        before = termios.tcgetattr(_STDIN)
        self._catch_signals()
        try:
            setraw(_STDIN, termios.TCSADRAIN)
            self._send_size()
            return self._copy()
        finally:
            termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)

    def _catch_signals(self) -> None:
        """Those that end this process wait until the terminal is as it was; a new size wakes the loop."""
        self._waker, written = os.pipe()
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        signal.signal(signal.SIGWINCH, lambda *_: None)
        for number in (signal.SIGHUP, signal.SIGTERM):
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _leave)

    def _connect(self, name: str) -> _socket.socket:
        made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        try:
            made.connect(f"/proc/self/fd/{self._place}/{attachments.socket(name)}")
        except ConnectionRefusedError:
            made.close()
            raise self._refused() from None
        made.setblocking(False)
        if name in _TOLD:
            try:
                made.send(_HELLO)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has ended already, which reading tells
        return made

    def _refused(self) -> RktError:
        if self._has_ended():
            return RktError("the app has ended")
        return RktError("nothing serves the streams of the app: its process was killed")

    def _closed(self) -> RktError:
        """Why the connections have ended before there was nothing more to be read."""
        if not self._has_ended():
            for name in {*self._choice.receives, self._choice.sends} - {""}:
                self._connect(name).close()
        return RktError(
            "the connection to the app was closed: its output was not read in time, or too many are attached"
        )

    # -- the loop ------------------------------------------------------------------------------------------

    def _copy(self) -> int:
        while self._connections:
            for fd, _ in self._wait():
                if fd == _STDIN and self._input:
                    if self._read_input():
                        return 0
                elif fd == self._waker:
                    os.read(fd, _CHUNK)
                    self._send_size()
                else:
                    self._serve(fd)
            if not self._choice.receives and not self._input and not self._unsent:
                return 0
        if self._lost or not self._has_ended():
            raise self._closed()
        return 0

    def _wait(self) -> list[tuple[int, int]]:
        waiting = poll()
        if self._input and (self._raw or not self._unsent):
            waiting.register(_STDIN, POLLIN)
        if self._waker >= 0:
            waiting.register(self._waker, POLLIN)
        for name, connection in self._connections.items():
            unsent = name == self._choice.sends and self._unsent
            waiting.register(connection.fileno(), POLLIN | (POLLOUT if unsent else 0))
        return waiting.poll()

    def _serve(self, fd: int) -> None:
        name = next((name for name, made in self._connections.items() if made.fileno() == fd), "")
        if not name:
            return
        if name == self._choice.sends and self._unsent:
            self._send_input()
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._lost = self._lost or name in _TOLD
            data = b""
        if not data:
            self._connections.pop(name).close()
            if name == self._choice.sends:
                self._input, self._unsent = False, b""
        elif name in self._choice.receives:
            self._print(name, data)

    def _print(self, name: str, data: bytes) -> None:
        try:
            files.write_all(_STDERR if name == "stderr" else _STDOUT, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise RktError(f"cannot write the app's {name}") from error

    # -- input ---------------------------------------------------------------------------------------------

    def _read_input(self) -> bool:
        """Read input once and send it on; True when it says to detach."""
        try:
            data = os.read(_STDIN, _CHUNK)
        except OSError as error:
            # A terminal that was hung up, or that belongs to somebody else now.
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._input = False
            self._end_input()
            return False
        if self._raw and self._detaches(data):
            return True
        if len(self._unsent) < _CHUNK:
            # On a terminal there is more to be read for an app that does not: somebody may want to leave it.
            self._unsent += data
        self._send_input()
        return False

    def _detaches(self, data: bytes) -> bool:
        for letter in data:
            self._presses = self._presses + 1 if letter == DETACH[0] else 0
            if self._presses == _TIMES:
                return True
        return False

    def _send_input(self) -> None:
        connection = self._connections.get(self._choice.sends)
        if connection is None:
            return
        try:
            self._unsent = self._unsent[connection.send(self._unsent) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # Its end is told by reading.
            self._unsent = b""
        if not self._unsent and not self._input:
            self._end_input()

    def _end_input(self) -> None:
        connection = self._connections.get(self._choice.sends)
        if connection is not None and not self._unsent:
            try:
                connection.shutdown(_socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise

    def _send_size(self) -> None:
        """Tell the app's terminal how large ours is; the app may have ended just now."""
        sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
        sender.setblocking(False)
        size = terminal.get_size(_STDIN)
        try:
            sender.sendto(size, f"/proc/self/fd/{self._place}/{attachments.WINDOW}")
        except (ConnectionRefusedError, BlockingIOError):
            return
        finally:
            sender.close()


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)
