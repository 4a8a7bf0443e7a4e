"""Many modules in one file: a command that imports a hundred of them starts several milliseconds earlier.

A module of its own file costs a search in every directory of ``sys.path`` and a dozen system calls; here it
costs one look into a table.  The file is::

    importlib.util.MAGIC_NUMBER, 4 bytes   of the interpreter that compiled the code
    length of the table, 4 bytes           little-endian
    table                                  marshalled: module -> (offset, length, is a package, time, size)
    code objects                           marshalled, one after the other

Offsets count from the end of the table.  ``time`` and ``size`` are those of the source file where it may
change (a checkout): a module whose source has changed is imported from there.  Both are 0 where source and
bundle are installed together.

Nothing depends on a bundle: without one, or with one of another interpreter, modules are imported as ever.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any

    Row = tuple[int, int, bool, int, int]

_HEADER = 8


class Finder:
    """Finds and loads the modules of one bundle, whose sources lie below ``directory``."""

    __slots__ = ("_directory", "_identity", "_path", "_rows", "_spec", "_start")

    def __init__(self, directory: str, rows: dict[str, Row], path: str, *, start: int, fd: int) -> None:
        """``start`` is where the code begins in the file ``path``, of which ``fd`` is open now."""
        # What importlib.machinery has, too; that module is not needed otherwise.
        import _frozen_importlib

        self._spec: Any = _frozen_importlib.ModuleSpec
        self._directory, self._rows = directory, rows
        self._path, self._start, self._identity = path, start, _identity(fd)

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What importlib asks of a finder; None for a module that is not here, or whose source changed."""
        row = self._rows.get(name)
        if row is None:
            return None
        place = f"{self._directory}/{name.replace('.', '/')}"
        origin = f"{place}/__init__.py" if row[2] else f"{place}.py"
        if row[3] and not _is_unchanged(origin, row):
            return None
        spec: ModuleSpec = self._spec(name, self, origin=origin, is_package=row[2])
        spec.has_location = True
        if row[2]:
            spec.submodule_search_locations = [place]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        name = module.__name__
        place = module.__spec__.origin if module.__spec__ is not None else None
        exec(self._code(name) or _compile(place or name), module.__dict__)

    def _code(self, name: str) -> CodeType | None:
        """A module's code; None when the file is not the one whose table was read."""
        offset, length = self._rows[name][:2]
        # Opened each time: a process that closes what it has inherited must not lose its modules.
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _identity(fd) != self._identity:
                return None
            code: CodeType = marshal.loads(os.pread(fd, length, self._start + offset))
        finally:
            os.close(fd)
        return code


def installed() -> str:
    """The bundle this process imports from; "" for none."""
    for finder in sys.meta_path:
        if isinstance(finder, Finder):
            return finder.path
    return ""


def _identity(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _compile(path: str) -> CodeType:
    with open(path, "rb") as file:
        code: CodeType = compile(file.read(), path, "exec", dont_inherit=True)
    return code


def _is_unchanged(path: str, row: Row) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_mtime_ns, status.st_size) == row[3:]


def install(path: str, directory: str) -> bool:
    """Import from the bundle ``path`` what it has of the sources below ``directory``; False without one."""
    from _frozen_importlib_external import MAGIC_NUMBER

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        head = os.read(fd, _HEADER)
        if head[:4] != MAGIC_NUMBER:
            return False
        length = int.from_bytes(head[4:], "little")
        rows = marshal.loads(os.read(fd, length))
        finder = Finder(directory, rows, path, start=_HEADER + length, fd=fd)
    finally:
        os.close(fd)
    # After built-in and frozen modules, before the directories of sys.path.
    sys.meta_path.insert(2, finder)
    return True


def build(sources: Iterable[tuple[str, str]], *, directory: str = "", checked: bool) -> bytes:
    """A bundle of modules: (path relative to the directory above the package, file), sorted by name.

    ``directory`` comes before the relative path in tracebacks.  ``checked``: sources may change.
    """
    import importlib.util

    rows: dict[str, Row] = {}
    codes: list[bytes] = []
    offset = 0
    for relative, path in sorted(sources):
        package = os.path.basename(relative) == "__init__.py"
        name = (os.path.dirname(relative) if package else relative.removesuffix(".py")).replace("/", ".")
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            source = file.read()
        shown = os.path.join(directory, relative)
        code = marshal.dumps(compile(source, shown, "exec", dont_inherit=True))
        times = (status.st_mtime_ns, status.st_size) if checked else (0, 0)
        rows[name] = (offset, len(code), package, *times)
        codes.append(code)
        offset += len(code)
    table = marshal.dumps(rows)
    return b"".join((importlib.util.MAGIC_NUMBER, len(table).to_bytes(4, "little"), table, *codes))


def write(package: str, path: str, *, checked: bool) -> None:
    """Bundle every module of the package in the directory ``package`` into the file ``path``."""
    above = os.path.dirname(package)
    sources = []
    for parent, directories, names in os.walk(package):
        directories[:] = sorted(name for name in directories if name != "__pycache__")
        for name in names:
            if name.endswith(".py"):
                file = os.path.join(parent, name)
                sources.append((os.path.relpath(file, above), file))
    data = build(sources, directory=above, checked=checked)
    temporary = f"{path}.{os.getpid()}.new"
    with open(temporary, "wb") as output:
        output.write(data)
    os.rename(temporary, path)
