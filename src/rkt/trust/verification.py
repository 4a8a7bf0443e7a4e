"""Verifies a detached signature with gpgv, which reads the signed bytes from a pipe as they pass by.

The bytes gpgv checks are the very ones the caller imports: nothing is read twice, so nothing can be
swapped in between.  gpgv runs beside decompression and hashing.

Rules (GnuPG's doc/DETAILS; the exit code says too little, gpgv exits 0 for an expired or revoked key):
exactly one GOODSIG and one VALIDSIG, and no BADSIG, ERRSIG, EXPSIG, EXPKEYSIG or REVKEYSIG; the primary key
of VALIDSIG is the expected one; no signature, not even one that binds a subkey or a user ID, by MD5, SHA-1 or
RIPEMD-160.  gpgv gets a key ring with this one key, no home directory and an empty environment.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.trust.openpgp import Key, Signature

PROGRAM = "gpgv"
_WEAK = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160"}
_PIPE_SIZE = 1 << 20
_OUTPUT_LIMIT = 1 << 20
_REFUSED = {
    "BADSIG": "openpgp: signature is bad",
    "EXPSIG": "openpgp: signature has expired",
    "EXPKEYSIG": "openpgp: key has expired",
    "REVKEYSIG": "openpgp: key has been revoked",
}
# gpg-error codes in the sixth word of ERRSIG
_ERRSIG = {
    "4": "openpgp: signature algorithm is not supported",
    "5": "openpgp: digest algorithm of the signature is not accepted",
    "6": "openpgp: key is not usable (bound by weak or no self-signatures)",
    "9": "openpgp: signature made by unknown entity",
}


class Verification:
    """One signature being checked against one key: ``feed`` all signed bytes, then ``finish``.

    A context manager: leaving it ends gpgv in any case.
    """

    __slots__ = ("_fds", "_key", "_pid", "_pipe", "_status_fd")

    def __init__(self, signature: Signature, key: Key) -> None:
        """Start gpgv.  Raises RktError when it is not installed or the digest algorithm is refused."""
        self._pid = -1
        self._pipe = -1
        self._status_fd = -1
        self._fds: list[int] = []
        self._key = key
        if signature.hash_algorithm in _WEAK:
            raise _weak(_WEAK[signature.hash_algorithm])
        try:
            self._start(signature, key)
        except BaseException:
            self.close()
            raise

    def _start(self, signature: Signature, key: Key) -> None:
        keyring = memory_file("keyring", key.data)
        self._fds.append(keyring)
        detached = memory_file("signature", signature.data)
        self._fds.append(detached)
        # A file, not a pipe: gpgv could otherwise wait for us to read while we wait for it to read.
        status = os.memfd_create("status", os.MFD_CLOEXEC)
        self._status_fd = status
        reader, self._pipe = os.pipe2(os.O_CLOEXEC)
        self._fds.append(reader)
        _widen(self._pipe)
        argv = [*command(keyring, status), f"/proc/self/fd/{detached}", "-"]
        self._pid = process.spawn(
            argv,
            env=process.CLEAN_ENVIRONMENT,
            stdin=reader,
            stdout=process.DEVNULL,
            stderr=process.DEVNULL,
            pass_fds=(keyring, detached, status),
        )
        os.close(self._fds.pop())

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Hand over the next signed bytes; a gpgv that has stopped reading has made up its mind."""
        view = memoryview(data)
        while view and self._pipe >= 0:
            try:
                view = view[os.write(self._pipe, view) :]
            except BrokenPipeError:
                self._close_pipe()

    def finish(self) -> None:
        """All has been fed: raises RktError unless the signature is good and made by the key."""
        self._close_pipe()
        pid, self._pid = self._pid, -1
        os.waitpid(pid, 0)
        check_status(os.pread(self._status_fd, _OUTPUT_LIMIT, 0).decode("utf-8", "replace"), self._key)

    def close(self) -> None:
        self._close_pipe()
        if self._pid > 0:
            pid, self._pid = self._pid, -1
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        for fd in (*self._fds, self._status_fd):
            if fd >= 0:
                os.close(fd)
        self._fds = []
        self._status_fd = -1

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            pipe, self._pipe = self._pipe, -1
            os.close(pipe)


def command(keyring: int, status: int) -> list[str]:
    """The beginning of a command line of gpgv; the fds hold the only key, and take the status lines.

    Raises RktError when gpgv is not installed.
    """
    argv = [_program(), "--homedir", "/nonexistent", "--weak-digest", "SHA1", "--weak-digest", "RIPEMD160"]
    return [*argv, "--status-fd", str(status), "--keyring", f"/proc/self/fd/{keyring}"]


def check_status(status: str, key: Key) -> None:
    """Judge gpgv's status lines; raises RktError unless they vouch for exactly one signature by ``key``."""
    good: list[list[str]] = []
    valid: list[list[str]] = []
    for line in status.splitlines():
        prefix, _, rest = line.partition(" ")
        words = rest.split(" ")
        if prefix != "[GNUPG:]":
            continue
        if words[0] in _REFUSED:
            raise RktError(_REFUSED[words[0]])
        if words[0] == "ERRSIG":
            code = words[6] if len(words) > 6 else ""
            raise RktError(_ERRSIG.get(code, f"openpgp: signature cannot be checked (gpgv error {code})"))
        if words[0] == "GOODSIG":
            good.append(words)
        elif words[0] == "VALIDSIG":
            valid.append(words)
    if len(good) != 1 or len(valid) != 1 or len(valid[0]) < 11:
        raise RktError("openpgp: gpgv did not find exactly one good signature")
    digest, primary = valid[0][8], valid[0][10]
    if not digest.isdigit() or int(digest) in _WEAK:
        raise _weak(_WEAK.get(int(digest), "") if digest.isdigit() else "an unknown digest")
    if primary.lower() != key.fingerprint:
        raise RktError("openpgp: signature made by unknown entity")


def _program() -> str:
    """Where gpgv is, whatever the caller's PATH: who is asked for a verdict is not up to the environment."""
    for directory in process.CLEAN_ENVIRONMENT["PATH"].split(":"):
        path = f"{directory}/{PROGRAM}"
        if os.access(path, os.X_OK):
            return path
    raise RktError(f"signatures cannot be verified: {PROGRAM} is not installed")


def _weak(algorithm: str) -> RktError:
    return RktError(f"openpgp: signature made with {algorithm}, which is not accepted")


def memory_file(name: str, data: bytes) -> int:
    """An fd of a file in memory with ``data``, positioned at its beginning."""
    from rkt.linux import files

    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        files.write_all(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _widen(pipe: int) -> None:
    """A larger pipe means fewer switches between us and gpgv; the default does too."""
    import fcntl

    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:
        pass
