"""What the layers of an image make up, one applied over the other, worked out from their headers alone.

Rules of the OCI image specification, "Representing Changesets", and, where it is silent, what umoci and
containers/storage do:

- an entry replaces what has its name; only a directory over a directory keeps what is in it;
- ``.wh.NAME`` takes NAME away and ``.wh..wh..opq`` everything in its directory, but only what lower layers
  put there, wherever in the layer the sign stands; other names with ``.wh..wh.`` mean nothing;
- a name leads through the links that lower layers (or earlier entries) put there, but never out of the root;
- a hard link means the file that has its target's name at that moment, which may be in a lower layer.

Nothing here touches the file system, so no link and no name can lead anywhere.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.store.entry import CHARACTER, DIRECTORY, FILE, LINK, SYMLINK, Entry
from rkt.store.layout import NAME_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_META = ".wh..wh."
_MAX_LINKS = 255
_MAX_PATH = 4000
"""Bytes; Linux takes 4095, and ``rootfs/`` comes before."""


class Header:
    """What of an entry has to be kept until all layers are there: where it is, and where its links lead.

    ``entry`` is kept for directories only; files are read again when the archive is written.
    """

    __slots__ = ("entry", "index", "linkname", "name", "type")

    def __init__(self, index: int, entry: Entry) -> None:
        self.index = index
        self.name = entry.name
        self.type = entry.type
        self.linkname = entry.linkname
        self.entry = entry if entry.type == DIRECTORY else None
        if entry.type == CHARACTER and entry.devmajor == entry.devminor == 0:
            raise RktError(f"{entry.name!r} is the sign of overlayfs for a removed file")


class Node:
    """A file of whatever type.  The same one under several names is a hard link.

    ``children`` is None but for directories; ``entry`` is the directory's own; ``origin`` is (layer, index)
    of the entry that made it, None for a directory no layer describes.
    """

    __slots__ = ("children", "entry", "linkname", "origin", "type")

    def __init__(self, type: str, origin: tuple[int, int] | None, linkname: str = "") -> None:
        self.type = type
        self.origin = origin
        self.linkname = linkname
        self.entry: Entry | None = None
        self.children: dict[str, Node] | None = {} if type == DIRECTORY else None


class Plan:
    """What to write: ``directories`` as (path, the entry that describes it or None), parents first, and for
    each layer the files by the index of their entries, each with its paths in order.
    """

    __slots__ = ("directories", "files")

    def __init__(self, layers: int) -> None:
        self.directories: list[tuple[str, Entry | None]] = []
        self.files: list[dict[int, list[str]]] = [{} for _ in range(layers)]


class Filesystem:
    """The root file system that grows with each ``apply``."""

    __slots__ = ("_count", "_layer", "_parents", "_root", "_touched")

    def __init__(self) -> None:
        self._root = Node(DIRECTORY, None)
        self._layer = -1
        self._count = 0
        # Paths that the layer being applied has put there: its own signs do not take them away.
        self._touched: set[str] = set()
        # Directories by their names in entries; forgotten when a directory or link goes or comes.
        self._parents: dict[str, tuple[Node, str]] = {}

    def apply(self, headers: Iterable[Header]) -> None:
        """Apply the next layer.  Raises RktError that names the entry."""
        self._layer += 1
        self._count += 1
        self._touched.clear()
        self._parents.clear()
        for header in headers:
            try:
                self._apply(header)
            except RktError as error:
                raise RktError(
                    f"entry {header.name[:200]!r} of layer {self._layer + 1} is refused"
                ) from error

    def plan(self) -> Plan:
        """What the layers applied so far make up."""
        plan = Plan(self._count)
        stack: list[tuple[str, Node]] = [("", self._root)]
        while stack:
            path, node = stack.pop()
            plan.directories.append((path, node.entry))
            assert node.children is not None
            for name, child in node.children.items():
                inner = f"{path}/{name}" if path else name
                if child.children is not None:
                    stack.append((inner, child))
                else:
                    assert child.origin is not None
                    layer, index = child.origin
                    plan.files[layer].setdefault(index, []).append(inner)
        plan.directories.sort(key=lambda item: item[0])
        for files in plan.files:
            for paths in files.values():
                paths.sort()
        return plan

    def _apply(self, header: Header) -> None:
        parts = split(header.name)
        if not parts:
            if header.type != DIRECTORY:
                raise RktError("the root is not a directory")
            self._root.entry = header.entry
            return
        name = parts.pop()
        if any(part.startswith(WHITEOUT) for part in parts):
            if any(part.startswith(_META) for part in parts):
                return
            raise RktError("a sign for a removed file is not a directory")
        if name.startswith(WHITEOUT):
            self._remove(parts, name)
            return
        target = self._linked(header) if header.type == LINK else None
        parent, path = self._directory(parts)
        assert parent.children is not None
        path = f"{path}/{name}" if path else name
        _check_name(name)
        if len(path) * 4 > _MAX_PATH and len(path.encode("utf-8", "surrogateescape")) > _MAX_PATH:
            raise RktError(f"its path is longer than {_MAX_PATH} bytes")
        existing = parent.children.get(name)
        if header.type == DIRECTORY and existing is not None and existing.type == DIRECTORY:
            existing.entry, existing.origin = header.entry, (self._layer, header.index)
        else:
            if existing is not None and existing.type in (DIRECTORY, SYMLINK):
                self._parents.clear()
            if target is None:
                target = Node(header.type, (self._layer, header.index), header.linkname)
                target.entry = header.entry
            if target.type == SYMLINK:
                self._parents.clear()
            parent.children[name] = target
        self._touch(path)

    def _linked(self, header: Header) -> Node:
        parts = split(header.linkname)
        name = parts.pop() if parts else ""
        found = self._find(parts)
        node = found[0].children.get(name) if found is not None and found[0].children is not None else None
        if node is None:
            raise RktError(f"hard link to {header.linkname[:200]!r}, which does not exist")
        if node.children is not None:
            raise RktError(f"hard link to {header.linkname[:200]!r}, which is a directory")
        return node

    # Removing

    def _remove(self, parts: list[str], name: str) -> None:
        if name != OPAQUE and name.startswith(_META):
            return
        found = self._find(parts)
        if name == OPAQUE:
            if found is not None:
                self._prune(*found)
            return
        name = name[len(WHITEOUT) :]
        if name in ("", ".", ".."):
            raise RktError("the sign for a removed file names none")
        if found is None:
            return
        parent, path = found
        assert parent.children is not None
        node = parent.children.get(name)
        if node is None:
            return
        path = f"{path}/{name}" if path else name
        if path not in self._touched:
            del parent.children[name]
            self._parents.clear()
        elif node.children is not None:
            self._prune(node, path)

    def _prune(self, node: Node, path: str) -> None:
        """Take everything out of a directory that this layer did not put there."""
        self._parents.clear()
        stack = [(node, path)]
        while stack:
            node, path = stack.pop()
            assert node.children is not None
            for name, child in list(node.children.items()):
                inner = f"{path}/{name}" if path else name
                if inner not in self._touched:
                    del node.children[name]
                elif child.children is not None:
                    stack.append((child, inner))

    def _touch(self, path: str) -> None:
        touched = self._touched
        while path and path not in touched:
            touched.add(path)
            path = path.rpartition("/")[0]

    # Names

    def _directory(self, parts: list[str]) -> tuple[Node, str]:
        """The directory a name leads to, made where it is missing, with its true path."""
        text = "/".join(parts)
        known = self._parents.get(text)
        if known is None:
            known = self._parents[text] = self._walk(parts, make=True) or (self._root, "")
        return known

    def _find(self, parts: list[str]) -> tuple[Node, str] | None:
        """The directory a name leads to; None where there is none."""
        return self._parents.get("/".join(parts)) or self._walk(parts, make=False)

    def _walk(self, parts: list[str], *, make: bool) -> tuple[Node, str] | None:
        node, names = self._root, list[str]()
        chain = [self._root]
        left = parts[::-1]
        links = 0
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            if part == "..":
                # Above the root is the root, as for a process in it.
                if names:
                    names.pop()
                    chain.pop()
                    node = chain[-1]
                continue
            assert node.children is not None
            child = node.children.get(part)
            if child is None:
                if not make:
                    return None
                if part.startswith(WHITEOUT):
                    # Where a link leads to; a name of an entry cannot have it.
                    raise RktError("a sign for a removed file is not a directory")
                _check_name(part)
                child = node.children[part] = Node(DIRECTORY, None)
            if child.type == SYMLINK:
                links += 1
                if links > _MAX_LINKS:
                    raise RktError("too many links on the way")
                if child.linkname.startswith("/"):
                    names, chain, node = [], [self._root], self._root
                left.extend(child.linkname.split("/")[::-1])
                continue
            if child.children is None:
                if not make:
                    return None
                raise RktError(f"{'/'.join([*names, part])[:200]!r} is not a directory")
            names.append(part)
            chain.append(child)
            node = child
        return node, "/".join(names)


def _check_name(name: str) -> None:
    """Raises RktError for one that no file system of Linux takes."""
    if len(name) * 4 > NAME_MAX and len(name.encode("utf-8", "surrogateescape")) > NAME_MAX:
        raise RktError(f"a name in it is longer than {NAME_MAX} bytes")


def split(name: str) -> list[str]:
    """The components of a name in a layer; a leading slash means the root of the image.

    RktError for ``..`` and NUL: no layer needs them.
    """
    if "\0" in name:
        raise RktError("a name with a NUL")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise RktError(f"{name[:200]!r} leads out of the image")
    return parts


def headers(entries: Iterable[Entry]) -> Iterator[Header]:
    """The headers of a layer's entries, numbered."""
    for index, entry in enumerate(entries):
        if entry.type == FILE and entry.size < 0:
            raise RktError(f"{entry.name!r} has a negative size")
        yield Header(index, entry)
