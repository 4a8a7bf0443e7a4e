"""Gets images into the store: reference -> source -> verification -> import -> dependencies -> tree.

A kind of source is one method of ``Fetcher``; all of them end in ``_import``.  Files, IDs and names that
are in the store are served; the other kinds say that they are not available.
"""

from __future__ import annotations

import os

from rkt.errors import Context, RktError
from rkt.image import reference as references
from rkt.image.insecure import InsecureOptions
from rkt.store.store import ImageNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rkt.appc.image import ImageManifest
    from rkt.appc.labels import Label
    from rkt.image.reference import Reference
    from rkt.store.compression import Readable
    from rkt.store.store import Store
    from rkt.trust.keystore import Keystore

NEVER, NEW, UPDATE = "never", "new", "update"

# uname(2) -> label arch; what is not here has the same name.
_ARCHITECTURES = {"x86_64": "amd64", "i686": "i386", "i586": "i386", "i486": "i386", "armv8l": "armv7l"}


def host_labels() -> dict[str, str]:
    """The labels os and arch of this machine, which a name is looked up with unless it says otherwise."""
    machine = os.uname().machine
    return {"os": "linux", "arch": _ARCHITECTURES.get(machine, machine)}


class Fetcher:
    """Finds or fetches images for one command.

    ``keystore`` None, or the insecure option ``image``: signatures are not looked at.  ``pull_policy`` is
    never, new or update.  ``notify`` gets lines for the user, with ``debug`` also where images come from.
    ``render``: make the trees of fetched images; None: as root on a kernel with overlay.
    """

    __slots__ = ("_debug", "_insecure", "_keystore", "_notify", "_policy", "_render", "_store")

    def __init__(
        self,
        store: Store,
        keystore: Keystore | None,
        *,
        insecure: Iterable[str] = (),
        pull_policy: str = NEW,
        notify: Callable[[str], object] = lambda _: None,
        debug: bool = False,
        render: bool | None = None,
    ) -> None:
        self._store = store
        self._keystore = keystore
        self._insecure = InsecureOptions(insecure)
        self._policy = pull_policy
        self._notify = notify
        self._debug = debug
        self._render = _can_render() if render is None else render

    def fetch(self, reference: str | Reference, signature: str | None = None) -> str:
        """The key of an image, in the store with all it depends on.

        ``signature`` is the path of its signature when that does not lie beside it.  Raises RktError or
        OSError; an image that was refused leaves nothing behind.
        """
        if isinstance(reference, str):
            reference = references.parse(reference)
        key = self._fetch_one(reference, signature)
        check_dependencies(self._store, key)
        if self._render:
            try:
                self._store.render(key)
            except (RktError, OSError) as error:
                raise RktError(f'error rendering tree store of image "{reference.text}"') from error
        return key

    def _fetch_one(self, reference: Reference, signature: str | None) -> str:
        if reference.kind == references.ID:
            return self._store.resolve(reference.location)
        if reference.kind == references.FILE:
            return self._fetch_file(reference.location, signature)
        if reference.kind == references.NAME:
            return self._fetch_name(reference)
        if reference.kind == references.HTTP:
            return self._not_available(reference, "downloads over http are")
        return self._not_available(reference, "docker registries are")

    def _fetch_file(self, path: str, signature: str | None) -> str:
        from rkt.image import source as sources

        self._diagnose(f"using image from file {path}")
        detached = None
        if self._needs_signature():
            try:
                detached = sources.read_signature(signature or references.signature_location(path))
            except OSError as error:
                raise Context("error opening signature file") from error
        try:
            fd = sources.open_file(path)
        except OSError as error:
            raise Context("error opening ACI file") from error
        with open(fd, "rb", buffering=0) as file:
            return self._import(file, path, detached)

    def _fetch_name(self, reference: Reference) -> str:
        name = reference.name
        assert name is not None
        if self._policy != UPDATE:
            key = self._store.find(name.name, _labels({**host_labels(), **name.labels}))
            if key is not None:
                self._diagnose(f"using image from local store for image name {reference.text}")
                return key
        if self._policy == NEVER:
            raise ImageNotFoundError(
                f'unable to fetch image "{reference.text}": it is not in the local store'
            )
        return self._not_available(reference, "discovery is")

    def _not_available(self, reference: Reference, what: str) -> str:
        raise RktError(f'unable to fetch image "{reference.text}": {what} not available in this version')

    def _import(self, file: Readable, name: str, signature: bytes | None) -> str:
        """Import what ``file`` gives; its bytes have to match ``signature`` unless that is None."""
        if signature is None:
            return self._write(file, name, lambda _: None)
        from rkt.image import source as sources

        assert self._keystore is not None
        keystore = self._keystore
        failure = f'image "{name}" verification failed'
        try:
            source = sources.VerifiedSource(file, signature, keystore)
        except RktError as error:
            raise RktError(failure) from error
        with source:

            def check(manifest: ImageManifest) -> None:
                try:
                    source.accept(manifest.name, self._notify)
                except RktError as error:
                    raise _VerificationError(failure) from error

            return self._write(source, name, check)

    def _write(self, source: Readable, name: str, check: Callable[[ImageManifest], None]) -> str:
        try:
            return self._store.import_image(source, check=check)
        except _VerificationError:
            raise
        except (RktError, OSError) as error:
            raise RktError(f'image "{name}" cannot be imported') from error

    def _needs_signature(self) -> bool:
        return self._keystore is not None and not self._insecure.image

    def _diagnose(self, text: str) -> None:
        if self._debug:
            self._notify(text)


class _VerificationError(RktError):
    """The signature does not vouch for the image."""


def check_dependencies(store: Store, key: str) -> None:
    """Follow an image's dependencies through the store; raises RktError for one that is missing or a loop."""
    store.tree_id(key)


def _labels(values: dict[str, str]) -> list[Label]:
    from rkt.appc import labels

    return labels.from_map(values)


def _can_render() -> bool:
    """Trees serve as lower layers of overlay mounts, and only root may make them."""
    if os.geteuid() != 0:
        return False
    try:
        with open("/proc/filesystems") as file:
            return any(line.split()[-1:] == ["overlay"] for line in file)
    except OSError:
        return False
