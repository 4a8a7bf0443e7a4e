"""``rkt image export``: an image as it is in the store, or as it was signed, its signature beside it."""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from rkt.cli.call import Call
    from rkt.image.export import Export

    Writer = Callable[[int], None]

_PIECE = 1 << 24


def run(call: Call) -> int:
    from rkt.image.export import Export
    from rkt.store.store import Store

    if len(call.args) != 2:
        return call.usage()
    word, path = call.args
    overwrite: bool = call.flags["overwrite"]
    with (
        Store(call.globals.dir, call.notify("db")) as store,
        Export(store, store.lookup(word), path, as_signed=call.flags["as-signed"]) as export,
    ):
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            if not overwrite:
                raise _exists(path)
            # A pipe or a device stays what it is, and has nothing beside it.
            _write_into(path, lambda fd: _copy(export, fd))
            return 0
        beside = [name for name, _ in export.beside]
        for name in (path, *beside):
            if os.path.lexists(name) and not overwrite:
                raise _exists(name)
        # At no moment is there a signature beside a file that it is not over.
        for name in beside:
            _remove(name)
        _replace(path, lambda fd: _copy(export, fd), overwrite=overwrite)
        for name, content in export.beside:
            _replace(name, _writer(content), overwrite=overwrite)
        for note in export.notes:
            call.error(note)
        if not beside and os.path.lexists(f"{path}.asc"):
            call.error(f"{path}.asc was there before and is no signature of {path}")
    return 0


def _exists(path: str) -> RktError:
    return RktError(f"output ACI file exists (try --overwrite): {path}")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _writer(content: bytes) -> Writer:
    from rkt.linux import files

    return lambda fd: files.write_all(fd, content)


def _write_into(path: str, write: Writer) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        write(fd)
    finally:
        os.close(fd)


def _replace(path: str, write: Writer, *, overwrite: bool) -> None:
    """The file appears when it is complete; a failure leaves nothing."""
    from rkt.linux import paths
    from rkt.linux.failure import named

    directory, name = os.path.split(os.path.realpath(path) if overwrite else path)
    temporary = os.path.join(directory, f".{name}.{os.urandom(6).hex()}.new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        error.filename = path
        raise
    try:
        try:
            write(fd)
        except OSError as error:
            raise error if error.filename else named(error, "write", path) from None
        finally:
            os.close(fd)
        if overwrite:
            os.rename(temporary, os.path.join(directory, name))
        else:
            paths.rename_no_replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, FileExistsError):
            raise _exists(path) from None
        raise


def _copy(export: Export, fd: int) -> None:
    """In the kernel where both files allow it and nothing has to be compared."""
    from rkt.linux import files

    if export.checked:
        for piece in export.pieces():
            files.write_all(fd, piece)
        return
    source: FileIO = export.source
    try:
        while os.copy_file_range(source.fileno(), fd, _PIECE):
            pass
    except OSError:
        # Another file system, a pipe: nothing was lost, both offsets stand where the last piece ended.
        while data := source.read(1 << 20):
            files.write_all(fd, data)
