"""``rkt image export``: the image as it is in the store, uncompressed, into a file."""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO

    from rkt.cli.call import Call

_PIECE = 1 << 24


def run(call: Call) -> int:
    from rkt.store.store import Store

    if len(call.args) != 2:
        return call.usage()
    word, path = call.args
    with Store(call.globals.dir, call.notify("db")) as store:
        key = store.lookup(word)
        if os.path.lexists(path) and not call.flags["overwrite"]:
            raise RktError(f"output ACI file exists (try --overwrite): {path}")
        with store.open_blob(key) as blob:
            if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
                _write_into(blob, path)
            else:
                _replace(blob, path, overwrite=call.flags["overwrite"])
    return 0


def _write_into(blob: FileIO, path: str) -> None:
    """A pipe or a device stays what it is."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _copy(blob, fd)
    finally:
        os.close(fd)


def _replace(blob: FileIO, path: str, *, overwrite: bool) -> None:
    """The file appears when it is complete; a failure leaves nothing."""
    from rkt.linux import paths

    directory, name = os.path.split(os.path.realpath(path) if overwrite else path)
    temporary = os.path.join(directory, f".{name}.{os.urandom(6).hex()}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try:
            _copy(blob, fd)
        finally:
            os.close(fd)
        if overwrite:
            os.rename(temporary, os.path.join(directory, name))
        else:
            paths.rename_no_replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, FileExistsError):
            raise RktError(f"output ACI file exists (try --overwrite): {path}") from None
        raise


def _copy(blob: FileIO, fd: int) -> None:
    """In the kernel where both files allow it."""
    from rkt.linux import files

    try:
        while os.copy_file_range(blob.fileno(), fd, _PIECE):
            pass
    except OSError:
        # Another file system, a pipe: nothing was lost, both offsets stand where the last piece ended.
        while data := blob.read(1 << 20):
            files.write_all(fd, data)
