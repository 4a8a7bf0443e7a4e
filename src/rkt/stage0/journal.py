"""What the apps of a pod have written, read from the journal that the pod itself keeps.

``journalctl`` reads it, not the host's journald: a pod's journal is in the pod's own layer, so it can be
read on any host, while the pod runs, after it ended, and where nothing of it is mounted.  The pod may have
made anything of these files.  So journalctl gets a copy of the mount of that one directory on which links
and devices lead nowhere, and works as nobody, who may read and nothing else; and what it prints is parsed,
with limits.
"""

from __future__ import annotations

import os
import select
import stat

from rkt.errors import RktError
from rkt.linux import mount, paths, process
from rkt.pod import layout, state, status
from rkt.pod.pod import Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIELDS = "MESSAGE,SYSLOG_IDENTIFIER,_PID,_SYSTEMD_UNIT"
_NOBODY = 65534
_SIGTERM = 15
_FOLLOW_MS = 250
_LONGEST_NAME = 64
_LONGEST_VALUE = 64 << 10
_LONGEST_FAULT = 4096
_CONFINED = (
    mount.MOUNT_ATTR_RDONLY
    | mount.MOUNT_ATTR_NOSUID
    | mount.MOUNT_ATTR_NODEV
    | mount.MOUNT_ATTR_NOEXEC
    | mount.MOUNT_ATTR_NOSYMFOLLOW
)
# journald itself says nothing through these, and the pod's systemd is told to be silent.
_LOGGED = ("syslog", "journal")
# The units of an app: its service (``rkt.stage1.systemd.units``), and those of its event handlers.
_UNITS = ("{}.service", "{}_app.service", "{}_pre-start.service", "{}_post-stop.service")


class Request:
    """What to read: ``apps`` by name, and with ``others`` what cannot be told whose it is: journald does not
    know the app of a program that was gone as soon as it had used syslog.  ``since`` as journalctl takes it,
    "" for all; the last ``lines`` entries, None for all; with ``follow`` until the pod has ended."""

    __slots__ = ("apps", "follow", "lines", "others", "since")

    def __init__(
        self,
        apps: list[str],
        *,
        others: bool = False,
        since: str = "",
        lines: int | None = None,
        follow: bool = False,
    ) -> None:
        self.apps = apps
        self.others = others
        self.since = since
        self.lines = lines
        self.follow = follow


class Entry:
    """One message: when, in microseconds since 1970; ``app`` is "" when unknown; ``identifier`` is the app's
    name unless a program called itself something else; ``pid`` as it is in the pod; ``message`` as it was
    written, cut when it is too long."""

    __slots__ = ("app", "identifier", "message", "pid", "time")

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        time = fields.get(b"__REALTIME_TIMESTAMP", b"")
        self.time = int(time) if time.isdigit() and len(time) < 20 else 0
        unit = fields.get(b"_SYSTEMD_UNIT", b"").decode("utf-8", "replace")
        self.app = unit.removesuffix(".service").partition("_")[0]
        self.identifier = fields.get(b"SYSLOG_IDENTIFIER", b"").decode("utf-8", "replace")
        self.pid = fields.get(b"_PID", b"").decode("utf-8", "replace")
        self.message = fields.get(b"MESSAGE", b"")


class ExportParser:
    """Reads the Journal Export Format (systemd.io/JOURNAL_EXPORT_FORMATS) as it arrives.

    Fields are ``NAME=VALUE`` lines, or ``NAME``, 8 bytes of length (little endian), the value and a newline;
    an empty line ends an entry.  Values are cut after 64 KiB.
    """

    __slots__ = ("_fields", "_left", "_name", "_rest", "_step", "_value")

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[bytes, bytes] = {}
        self._name = b""
        self._value = bytearray()
        self._left = 0
        self._step: Callable[[bytes, int, list[dict[bytes, bytes]]], int] = self._read_name

    def feed(self, data: bytes) -> list[dict[bytes, bytes]]:
        """The entries that are complete by now."""
        found: list[dict[bytes, bytes]] = []
        data, at = self._rest + data, 0
        while (end := self._step(data, at, found)) >= 0:
            at = end
        self._rest = data[~end:]
        return found

    # Each step returns where the next one begins, or, when it needs more data, ~ where it has to go on.

    def _read_name(self, data: bytes, at: int, found: list[dict[bytes, bytes]]) -> int:
        end = data.find(b"\n", at)
        if end == at:
            if self._fields:
                found.append(self._fields)
            self._fields = {}
            return end + 1
        equals = data.find(b"=", at, end if end >= 0 else len(data))
        if equals >= 0:
            self._begin(data[at:equals])
            self._step = self._read_text
            return equals + 1
        if (len(data) if end < 0 else end) - at > _LONGEST_NAME:
            raise RktError("journalctl has written something that is no journal")
        if end < 0:
            return ~at
        self._begin(data[at:end])
        self._step = self._read_size
        return end + 1

    def _read_text(self, data: bytes, at: int, _: list[dict[bytes, bytes]]) -> int:
        end = data.find(b"\n", at)
        if end < 0:
            self._add(data[at:])
            return ~len(data)
        self._add(data[at:end])
        self._end()
        return end + 1

    def _read_size(self, data: bytes, at: int, _: list[dict[bytes, bytes]]) -> int:
        if len(data) - at < 8:
            return ~at
        self._left = int.from_bytes(data[at : at + 8], "little")
        self._step = self._read_bytes
        return at + 8

    def _read_bytes(self, data: bytes, at: int, _: list[dict[bytes, bytes]]) -> int:
        part = data[at : at + self._left]
        self._add(part)
        self._left -= len(part)
        at += len(part)
        if self._left or at == len(data):
            return ~at
        self._end()
        return at + 1

    def _begin(self, name: bytes) -> None:
        self._name = name
        self._value.clear()

    def _add(self, part: bytes) -> None:
        room = _LONGEST_VALUE - len(self._value)
        self._value += part if len(part) <= room else part[:room]

    def _end(self) -> None:
        self._fields[self._name] = bytes(self._value)
        self._step = self._read_name


def read(pod: Pod, request: Request) -> Iterator[Entry]:
    """The entries of a pod's journal, oldest first; none while there is no journal yet.

    RktError when the pod never has a journal, journalctl is missing or it refuses ``since``.
    """
    if pod.state != state.RUNNING and pod.state not in state.ENDED:
        raise RktError(f'pod "{pod.uuid}" has not been started')
    if not request.apps:
        raise RktError(f'pod "{pod.uuid}" has no apps')
    ended = not request.follow or _has_ended(pod)
    directory = _open(pod)
    while directory is None and not ended:
        select.select([], [], [], _FOLLOW_MS / 1000)
        ended = _has_ended(pod)
        directory = _open(pod)
    if directory is None:
        return
    try:
        cursor = b""
        if not ended:
            for fields in _Reader(directory, request, follow=pod).entries():
                cursor = fields.get(b"__CURSOR", b"")
                yield Entry(fields)
        for fields in _Reader(directory, request, after=cursor.decode("ascii", "replace")).entries():
            yield Entry(fields)
    finally:
        os.close(directory)


def _has_ended(pod: Pod) -> bool:
    """Whether the pod has ended by now, wherever its directory is."""
    try:
        with Pod.open(pod.data_dir, pod.uuid, start=pod.directory) as now:
            return now.state != state.RUNNING
    except RktError:
        return True


def _open(pod: Pod) -> int | None:
    """The confined directory of the journal; None when there is none yet.  RktError when there never is."""
    path = f"{status.stage1_files(pod)}/{layout.JOURNAL}/{pod.uuid.replace('-', '')}"
    resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS | paths.RESOLVE_NO_MAGICLINKS
    try:
        directory = paths.openat2(pod.fd, path, os.O_RDONLY | os.O_DIRECTORY, resolve=resolve)
    except FileNotFoundError:
        if not _keeps_one(pod):
            raise RktError(
                f'pod "{pod.uuid}" has no journal, its stage1 keeps none',
                "the output of its apps went where that of rkt itself went",
            ) from None
        return None
    except OSError as error:
        raise RktError(f'the journal of pod "{pod.uuid}" cannot be opened') from error
    try:
        _check(pod, directory)
        return _confine(directory)
    finally:
        os.close(directory)


def _keeps_one(pod: Pod) -> bool:
    """Whether the stage1 has a place for journals in its image, as those with journald have."""
    if pod.uses_overlay:
        root = os.path.join(pod.data_dir, "cas", "tree", status.stage1_tree(pod), "rootfs")
    else:
        root = os.path.join(pod.path, layout.STAGE1_ROOT)
    return os.path.isdir(os.path.join(root, layout.JOURNAL))


def _check(pod: Pod, directory: int) -> None:
    """Tell about what a journal never has; that it leads nowhere does not depend on this look."""
    with os.scandir(directory) as entries:
        for entry in entries:
            kind = entry.stat(follow_symlinks=False).st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                name = entry.name.encode("utf-8", "backslashreplace").decode()
                raise RktError(f'the journal of pod "{pod.uuid}" has been tampered with: {name!a} is no file')


def _confine(directory: int) -> int:
    """A mount of a directory, in nobody's tree, that is read-only and has no links and devices."""
    try:
        return mount.clone(directory, recursive=False, set=_CONFINED)
    except PermissionError:
        # Not root: a link can lead to nothing that this user cannot read anyway.
        return os.dup(directory)


class _Reader:
    """One run of journalctl; ``follow`` is a running pod whose end is awaited."""

    __slots__ = ("_argv", "_directory", "_faults", "_follow", "_since")

    def __init__(
        self, directory: int, request: Request, *, after: str = "", follow: Pod | None = None
    ) -> None:
        self._directory = directory
        self._follow = follow
        self._faults = bytearray()
        self._since = request.since
        words = ["journalctl", "--no-pager", "--quiet", f"--directory=/proc/self/fd/{directory}"]
        words += ["--output=export", f"--output-fields={_FIELDS}"]
        if follow is not None:
            # Without --merge it looks for the first entry of this boot, and ends when there is none yet.
            words += ["--follow", "--merge"]
        if after:
            words.append(f"--after-cursor={after}")
        elif request.since:
            words.append(f"--since={request.since}")
        if not after and (follow is not None or request.lines is not None):
            words.append(f"--lines={'all' if request.lines is None else request.lines}")
        for app in request.apps:
            for unit in _UNITS:
                words += ["+", f"_SYSTEMD_UNIT={unit.format(app)}"]
        if request.others:
            for transport in _LOGGED:
                words += ["+", f"_TRANSPORT={transport}"]
        words.remove("+")
        self._argv = [*_confinement(), *words]

    def entries(self) -> Iterator[dict[bytes, bytes]]:
        environment = dict(process.CLEAN_ENVIRONMENT)
        if "TZ" in os.environ:
            environment["TZ"] = os.environ["TZ"]
        output, faults = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        try:
            pid = process.spawn(
                self._argv,
                env=environment,
                stdin=process.DEVNULL,
                stdout=output[1],
                stderr=faults[1],
                pass_fds=(self._directory,),
            )
        except BaseException as error:
            for fd in (output[0], faults[0]):
                os.close(fd)
            if isinstance(error, FileNotFoundError):
                raise RktError("setpriv is needed to read a journal", "install util-linux") from error
            raise
        finally:
            os.close(output[1])
            os.close(faults[1])
        ended = False
        try:
            yield from self._collect(output[0], faults[0])
            ended = self._follow is None
        finally:
            os.close(output[0])
            os.close(faults[0])
            if not ended:
                os.kill(pid, _SIGTERM)
            code = process.exit_code(os.waitpid(pid, 0)[1])
        if ended and code:
            raise self._failure(code)

    def _collect(self, output: int, faults: int) -> Iterator[dict[bytes, bytes]]:
        parser = ExportParser()
        poll = select.poll()
        for fd in (output, faults):
            poll.register(fd, select.POLLIN)
        opened = {output, faults}
        while opened:
            ready = poll.poll(None if self._follow is None else _FOLLOW_MS)
            if not ready and self._follow is not None and _has_ended(self._follow):
                return
            for fd, _ in ready:
                data = os.read(fd, 1 << 16)
                if not data:
                    poll.unregister(fd)
                    opened.discard(fd)
                elif fd == output:
                    yield from parser.feed(data)
                elif len(self._faults) < _LONGEST_FAULT:
                    self._faults += data

    def _failure(self, code: int) -> RktError:
        said = self._faults.decode("utf-8", "replace").strip().splitlines()
        if said and said[0].startswith("Failed to parse timestamp"):
            return RktError(f'invalid time "{self._since}"')
        if said and "failed to execute journalctl" in said[-1]:
            reason = said[-1].rpartition(": ")[2]
            return RktError(
                f"journalctl is needed to read the journal of a pod: {reason.lower()}", "install systemd"
            )
        if said:
            return RktError(said[-1])
        return RktError(f"journalctl ended with {code}")


def _confinement() -> list[str]:
    """The command in front of journalctl: it ends with this process, and root's one has root's eyes only."""
    words = ["setpriv", "--pdeathsig=KILL", "--no-new-privs"]
    if os.geteuid() == 0:
        ability = "-all,+dac_read_search"
        words += [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        words += [f"--{kind}={ability}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return [*words, "--"]
