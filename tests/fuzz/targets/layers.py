"""Layers of container images: what they make up in memory, and what the kernel makes of them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile

from fuzz.target import Target, Words, attempt
from rkt.errors import RktError
from rkt.linux import paths
from rkt.store.entry import DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry
from rkt.store.filesystem import Filesystem, Header

_NAMES = ("a", "b", "c")
_LAST = (*_NAMES, ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.x", "..", "")
_TARGETS = ("a", "b", "a/b", "../a", "/", "/b", "/c/a", "..", "../../b", ".", "a/../b", "c")
_KINDS = (FILE, FILE, DIRECTORY, DIRECTORY, SYMLINK, LINK, FIFO)
_RESOLVE = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_MAGICLINKS


class Unlike(Exception):
    """The kernel and we may differ here: too many links, a link to what is to be made first."""


def _entry(words: Words) -> Entry:
    parts = [words.choice(_NAMES) for _ in range(words.byte() % 4)]
    name = "/".join([*parts, words.choice(_LAST)])
    entry = Entry(name or ".", words.choice(_KINDS))
    if entry.type == SYMLINK:
        entry.linkname = words.choice(_TARGETS)
    elif entry.type == LINK:
        entry.linkname = "/".join(words.choice(_NAMES) for _ in range(words.byte() % 3 + 1))
    return entry


def _layers(data: bytes) -> list[list[Entry]]:
    words = Words(data)
    made: list[list[Entry]] = [[]]
    while words and sum(map(len, made)) < 60:
        if words.byte() % 8 == 0 and made[-1]:
            made.append([])
        made[-1].append(_entry(words))
    return made


def layers(data: bytes) -> None:
    made = _layers(data)
    filesystem = Filesystem()
    for entries in made:
        filesystem.apply([Header(index, entry) for index, entry in enumerate(entries)])
    plan = filesystem.plan()
    ours: dict[str, str] = {path: "directory" for path, _ in plan.directories if path}
    for number, files in enumerate(plan.files):
        for index, names in files.items():
            for name in names:
                assert name not in ours, f"{name} twice"
                ours[name] = _describe(made[number][index], number, index)
    for path in ours:
        parent = path.rpartition("/")[0]
        assert not parent or ours.get(parent) == "directory", f"{path} without its directory"
        assert not {"", ".", ".."} & set(path.split("/")), path
    try:
        theirs = _by_kernel(made)
    except Unlike:
        return
    assert ours == theirs, (ours, theirs)


def _describe(entry: Entry, layer: int, index: int) -> str:
    if entry.type == SYMLINK:
        return f"link to {entry.linkname}"
    return f"{layer}.{index}" if entry.type == FILE else entry.type


def _by_kernel(made: list[list[Entry]]) -> dict[str, str]:
    top = tempfile.mkdtemp(prefix="rkt-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number, entries in enumerate(made):
            layer = _KernelLayer(root, top)
            for index, entry in enumerate(entries):
                layer.apply(entry, _describe(entry, number, index))
        return _walk(top)
    finally:
        os.close(root)
        shutil.rmtree(top)


def _walk(top: str) -> dict[str, str]:
    found = {}
    for parent, directories, names in os.walk(top):
        for name in (*directories, *names):
            path = os.path.join(parent, name)
            found[os.path.relpath(path, top)] = _what(path)
    return found


def _what(path: str) -> str:
    if os.path.islink(path):
        return f"link to {os.readlink(path)}"
    if os.path.isdir(path):
        return "directory"
    if os.path.isfile(path):
        with open(path) as file:
            return file.read()
    return FIFO


class _KernelLayer:
    """One layer applied to a directory: the kernel follows the links and keeps inside."""

    def __init__(self, root: int, top: str) -> None:
        self.root, self.top = root, top
        self.touched: set[str] = set()

    def apply(self, entry: Entry, content: str) -> None:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if not parts:
            return
        name = parts.pop()
        if name.startswith(".wh."):
            directory = self.find(parts)
            if directory is not None:
                self.remove(directory, name)
            return
        source = self.find_file(entry.linkname) if entry.type == LINK else ""
        directory = self.make(parts)
        path = os.path.join(directory, name)
        if entry.type == DIRECTORY and os.path.isdir(path) and not os.path.islink(path):
            self.touch(path)
            return
        new = os.path.join(self.top, ".new")
        if entry.type == DIRECTORY:
            os.mkdir(new)
        elif entry.type == SYMLINK:
            os.symlink(entry.linkname, new)
        elif entry.type == LINK:
            os.link(source, new, follow_symlinks=False)
        elif entry.type == FIFO:
            os.mkfifo(new)
        else:
            with open(new, "w") as file:
                file.write(content)
        self.erase(path)
        os.rename(new, path)
        if os.path.lexists(new):
            # rename(2) of two names of one file does nothing
            os.unlink(new)
        self.touch(path)

    def open(self, parts: list[str]) -> int | None:
        try:
            return paths.openat2(
                self.root, "/".join(parts) or ".", os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE
            )
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise Unlike from None

    def find(self, parts: list[str]) -> str | None:
        fd = self.open(parts)
        if fd is None:
            return None
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def find_file(self, name: str) -> str:
        parts = name.split("/")
        directory = self.find(parts[:-1])
        if directory is None:
            raise Unlike
        return os.path.join(directory, parts[-1])

    def make(self, parts: list[str]) -> str:
        for count in range(1, len(parts) + 1):
            if self.find(parts[:count]) is None:
                parent = self.find(parts[: count - 1])
                assert parent is not None
                path = os.path.join(parent, parts[count - 1])
                if os.path.lexists(path):
                    raise Unlike
                os.mkdir(path)
        found = self.find(parts)
        assert found is not None
        return found

    def remove(self, directory: str, name: str) -> None:
        if name == ".wh..wh..opq":
            self.prune(directory)
        elif not name.startswith(".wh..wh."):
            path = os.path.join(directory, name.removeprefix(".wh."))
            if not os.path.lexists(path):
                return
            if path not in self.touched:
                self.erase(path)
            elif os.path.isdir(path) and not os.path.islink(path):
                self.prune(path)

    def prune(self, directory: str) -> None:
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if path not in self.touched:
                self.erase(path)
            elif os.path.isdir(path) and not os.path.islink(path):
                self.prune(path)

    def erase(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def touch(self, path: str) -> None:
        while path != self.top:
            self.touched.add(path)
            path = os.path.dirname(path)


TARGETS = [
    Target(
        "layers",
        lambda data: attempt(lambda: layers(data)),
        lambda: [bytes(range(60)), bytes([9, 1, 0, 0, 2, 9, 1, 0, 3, 0, 8, 1, 0, 3, 0])],
        refusals=(RktError,),
        longest=300,
        runs=2000,
    )
]
