"""Which stage1 image a new pod gets.

What the caller names wins: a path, a URL, a name, an ID, or a file of the stage1 images directory.  Otherwise
the configuration's (kind ``stage1``: name and version in the store, else its location), otherwise the
one that came with this program: in the store by name and version, else its file.
"""

from __future__ import annotations

import os

import rkt
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.config import Config
    from rkt.image.fetch import Fetcher
    from rkt.store.store import Store

DEFAULT_NAME = "coreos.com/rkt/stage1-host"
DEFAULT_VERSION = "1.30.0"
DEFAULT_FILE = "stage1-host.aci"
INSTALLED_DIRECTORY = "/usr/lib/rkt/stage1-images"

PATH, URL, NAME, HASH, FROM_DIRECTORY = "path", "url", "name", "hash", "from-dir"


class Choice:
    """What the caller named: ``kind`` is one of the constants above, or empty for the default."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: str = "", value: str = "") -> None:
        self.kind = kind
        self.value = value


def directories() -> list[str]:
    """Where the stage1 images of this program are: of a checkout, of its prefix, beside its own file.

    Found from the place of the package, so whatever the program was called by.
    """
    package = os.path.dirname(os.path.realpath(rkt.__file__))
    parent = os.path.dirname(package)
    if os.path.basename(parent) == "src":
        root = os.path.dirname(parent)
        return [os.path.join(root, "build", "stage1"), os.path.join(root, "bin")]
    prefix = os.path.dirname(os.path.dirname(os.path.dirname(parent)))
    found = [os.path.join(prefix, "lib", "rkt", "stage1-images"), INSTALLED_DIRECTORY]
    return [*dict.fromkeys(found), os.path.join(prefix, "bin")]


class Selector:
    """Finds the image of a choice.

    ``fetcher`` makes the fetcher that is used; called with True it must not ask for signatures, which is
    only done for images that came with the program.
    """

    __slots__ = ("config", "fetcher", "store")

    def __init__(self, store: Store, config: Config, fetcher: Callable[[bool], Fetcher]) -> None:
        self.store = store
        self.config = config
        self.fetcher = fetcher

    def select(self, choice: Choice) -> str:
        """The key of the stage1 image, in the store by then."""
        try:
            if choice.kind == PATH:
                return self._fetch_file(os.path.abspath(choice.value))
            if choice.kind == FROM_DIRECTORY:
                return self._fetch_file(self._in_directory(choice.value))
            if choice.kind == HASH:
                return self.store.resolve(choice.value)
            if choice.kind:
                return self._fetch(choice)
            return self._configured() or self._default()
        except (RktError, OSError) as error:
            # Of discovery only the end is told, which has not the name.
            name = f" {choice.value}" if choice.kind == NAME else ""
            raise RktError(f"error getting stage1 image{name}") from error

    def _fetch(self, choice: Choice) -> str:
        from rkt.image import reference

        parsed = reference.parse(choice.value)
        if choice.kind == NAME and parsed.kind != reference.NAME:
            raise RktError(f'"{choice.value}" is not the name of an image')
        if choice.kind == URL and parsed.kind not in (reference.FILE, reference.HTTP, reference.DOCKER):
            raise RktError(f'"{choice.value}" is not the URL of an image')
        return self.fetcher(False).fetch(parsed)

    def _fetch_file(self, path: str) -> str:
        return self.fetcher(is_own(path)).fetch(path)

    def _in_directory(self, name: str) -> str:
        if not name or "/" in name:
            raise RktError(f'"{name}" is not the name of a file in the stage1 images directory')
        configured = self.config.paths.stage1_images
        places = [configured] if configured else directories()
        for place in places:
            path = os.path.join(place, name)
            if os.path.exists(path):
                return path
        return os.path.join(places[0], name)

    def _configured(self) -> str | None:
        """The stage1 of the configuration, None when it names none."""
        settings = self.config.stage1
        if settings.name:
            key = self._find(settings.name, settings.version)
            if key is not None and not settings.version.endswith("-dirty"):
                return key
        if not settings.location:
            return None
        if settings.location.startswith("/"):
            return self._fetch_file(settings.location)
        return self.fetcher(False).fetch(settings.location)

    def _default(self) -> str:
        """The stage1 that belongs to this program; the store's, unless the file is newer."""
        key = self._find(DEFAULT_NAME, DEFAULT_VERSION)
        for path in [os.path.join(place, DEFAULT_FILE) for place in directories()]:
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            # The change time cannot be set back: an image that was installed after the import is newer,
            # whatever modification time its package gave it.
            if key is not None and self.store.info(key).import_time >= status.st_ctime_ns:
                return key
            return self._fetch_file(path)
        if key is None:
            places = ", ".join(directories())
            raise RktError(f"no default stage1 image {DEFAULT_FILE} in {places}", "name one by --stage1-path")
        return key

    def _find(self, name: str, version: str) -> str | None:
        from rkt.appc.labels import Label

        return self.store.find(name, [Label("version", version)])


def is_own(path: str) -> bool:
    """Whether an image file came with this program, and is as trusted as the program itself."""
    real = os.path.realpath(path)
    *images, beside = directories()
    if real == os.path.join(os.path.realpath(beside), DEFAULT_FILE):
        return True
    return os.path.dirname(real) in [os.path.realpath(place) for place in images]
