"""From a source and a reference to an image in the store.

::

    index -> manifest -> verification -> configuration -> layers (several at once) -> file system -> archive
                                                                                        -> store

Nothing of an image is used before its digest was checked, and nothing but small documents and layers by
their digests is fetched before it was verified.  The image's key depends on its documents and its name only.
"""

from __future__ import annotations

import time

from rkt.errors import RktError
from rkt.image.oci import documents, platforms, verification
from rkt.image.oci import layers as layering
from rkt.image.oci.manifest import Origin, convert
from rkt.store import merge
from rkt.store.filesystem import Filesystem
from rkt.store.index import Remote
from rkt.store.layers import Layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.appc.image import ImageManifest
    from rkt.image.oci.names import ContainerName
    from rkt.image.oci.source import Document, Source
    from rkt.image.oci.verification import Verified
    from rkt.image.progress import Progress
    from rkt.store.store import Store
    from rkt.trust.keystore import Keystore

_DEPTH = 3
"""An index may lead to an index; more than that is a game."""


class Request:
    """What is wanted of a source.

    ``reference`` is the tag, name or digest there; ``pinned`` a digest the user named, or "".  ``name`` is
    what the image is called in a registry, None where only ``label`` names it.  ``text`` is what the user
    typed.
    """

    __slots__ = ("label", "name", "pinned", "reference", "text", "version")

    def __init__(
        self,
        text: str,
        reference: str,
        *,
        pinned: str = "",
        name: ContainerName | None = None,
        label: str = "",
        version: str = "",
    ) -> None:
        self.text = text
        self.reference = reference
        self.pinned = pinned
        self.name = name
        self.label = label
        self.version = version


class Found:
    """The documents of an image, each of the right digest: what was asked for first, the manifest last."""

    __slots__ = ("chain", "manifest")

    def __init__(self, chain: list[Document], manifest: documents.Manifest) -> None:
        self.chain = chain
        self.manifest = manifest

    @property
    def digest(self) -> str:
        """That of the manifest."""
        return self.chain[-1].digest


class Taken:
    """An image of which everything is here and checked: its appc manifest, its layers and who reads them."""

    __slots__ = ("layers", "manifest", "taker")

    def __init__(self, manifest: ImageManifest, layers: list[layering.Layer], taker: layering.Taker) -> None:
        self.manifest = manifest
        self.layers = layers
        self.taker = taker

    def contents(self, count: int | None = None) -> list[layering.Entries]:
        """What is in the layers, in the lowest ``count`` of them."""
        return [layering.Entries(layer, self.taker) for layer in self.layers[:count]]


class ContainerFetcher:
    """Fetches container images for one command.

    ``keystore`` None: no verification.  ``host``: labels os and arch of this machine.  ``render``: the
    tree of the image is made as well, and its layers are kept unpacked (root).
    """

    __slots__ = ("_diagnose", "_host", "_keystore", "_limits", "_notify", "_progress", "_render", "_store")

    def __init__(
        self,
        store: Store,
        keystore: Keystore | None,
        *,
        host: dict[str, str],
        limits: layering.Limits | None = None,
        notify: Callable[[str], object] = lambda _: None,
        diagnose: Callable[[str], object] = lambda _: None,
        progress: Progress | None = None,
        render: bool = False,
    ) -> None:
        self._store = store
        self._render = render
        self._progress = progress
        self._keystore = keystore
        self._host = host
        self._limits = limits or layering.Limits()
        self._notify = notify
        self._diagnose = diagnose

    def fetch(
        self,
        source: Source,
        request: Request,
        *,
        lookaside: Callable[[str], list[bytes]] = lambda _: [],
        url: str = "",
    ) -> str:
        """The key of the image, in the store.  ``url`` is where it is noted to have come from, or ""."""
        found = self.find(source, request)
        try:
            verified = verification.verify(
                self._keystore,
                source,
                request.name if source.remote else None,
                found.chain,
                pinned=request.pinned,
                lookaside=lookaside,
                notify=self._notify,
            )
        except RktError as error:
            raise RktError(f'image "{request.text}" verification failed', hint=error.hint) from error
        key = self._present(url, found, verified)
        if key is None:
            try:
                key = self._convert(source, request, found)
            except (RktError, OSError) as error:
                hint = error.hint if isinstance(error, RktError) else ""
                raise RktError(f'image "{request.text}" cannot be imported', hint=hint) from error
        self._store.put_verification(key, verified.method, verified.detail, verified.signature)
        if url:
            row = Remote(url, key, etag=found.digest, download_time=time.time_ns())
            self._store.put_remote(row)
        return key

    def find(self, source: Source, request: Request) -> Found:
        """Follow the reference to the manifest for this machine.  Raises RktError."""
        document = source.document(request.reference)
        if document is None:
            raise RktError(f'image "{request.text}" not found')
        if request.pinned and document.digest != request.pinned:
            raise RktError(f'image "{request.text}" has the digest {document.digest}')
        chain = [document]
        platform = platforms.host(self._host["os"], self._host["arch"])
        for _ in range(_DEPTH):
            what = f"manifest {document.digest}"
            parsed = documents.parse(document.data, document.media_type, what)
            if isinstance(parsed, documents.Manifest):
                return Found(chain, parsed)
            chosen = platforms.choose(parsed, platform)
            inner = source.document(chosen.digest)
            if inner is None:
                raise RktError(f'image "{request.text}" has no manifest {chosen.digest}')
            if len(inner.data) != chosen.size:
                raise RktError(
                    f"manifest {chosen.digest} has {len(inner.data)} bytes instead of {chosen.size}"
                )
            inner.media_type = chosen.media_type or inner.media_type
            document = inner
            chain.append(document)
        raise RktError(f'image "{request.text}" is an index of indexes')

    def _present(self, url: str, found: Found, verified: Verified) -> str | None:
        """The key of the same image, noted for the same place."""
        remote = self._store.remote(url) if url else None
        if remote is None or remote.etag != found.digest or not self._store.is_complete(remote.blob_key):
            return None
        self._diagnose(f"using image from local store for manifest {found.digest}")
        return remote.blob_key

    def _convert(self, source: Source, request: Request, found: Found) -> str:
        if self._render:
            return self._convert_unpacked(source, request, found)
        taken = self.take(source, request, found)
        layering.check_space(self._store.places.cas, sum(layer.size for layer in taken.layers))
        filesystem = Filesystem()
        for layer in taken.layers:
            filesystem.apply(layer.headers)
        manifest = taken.manifest.encode().encode()
        with merge.stream(manifest, filesystem.plan(), taken.contents()) as archive:
            return self._store.import_image(archive)

    def _convert_unpacked(self, source: Source, request: Request, found: Found) -> str:
        """The image is made of its unpacked layers, and its tree with it."""
        from rkt.image.oci import unpacked

        manifest, layers = self._describe(source, request, found)
        work = unpacked.Conversion(
            self._store, source, limits=self._limits, notify=self._diagnose, progress=self._progress
        )
        return work.convert(manifest.encode().encode(), layers)

    def take(self, source: Source, request: Request, found: Found) -> Taken:
        """Get all of an image that is to be converted.  Raises RktError."""
        manifest, layers = self._describe(source, request, found)
        self._store.places.make()
        taker = layering.Taker(
            source,
            Layers(self._store.places),
            limits=self._limits,
            notify=self._diagnose,
            progress=self._progress,
        )
        taker.take(layers)
        return Taken(manifest, layers, taker)

    def _describe(
        self, source: Source, request: Request, found: Found
    ) -> tuple[ImageManifest, list[layering.Layer]]:
        """The manifest of the image to be, and the layers it is made of.  Raises RktError."""
        config_descriptor = found.manifest.config
        if config_descriptor.media_type not in documents.CONFIGS:
            raise RktError(
                f'the manifest is of no image, but of "{config_descriptor.media_type[:200] or "something"}"'
            )
        data = source.read(config_descriptor, f"configuration {config_descriptor.digest}")
        value = documents.load(data, f"configuration {config_descriptor.digest}")
        config = documents.Configuration(value)
        layers = _layers(found.manifest, config)
        origin = _origin(request, found, config_descriptor.digest)
        return convert(config, origin, self._host), layers


def _layers(manifest: documents.Manifest, config: documents.Configuration) -> list[layering.Layer]:
    if not manifest.layers:
        raise RktError("the image has no layers")
    if len(manifest.layers) != len(config.diff_ids):
        raise RktError(
            f"the manifest has {len(manifest.layers)} layers, the configuration {len(config.diff_ids)}"
        )
    for layer in manifest.layers:
        documents.check_layer(layer)
    pairs = zip(manifest.layers, config.diff_ids, strict=True)
    return [layering.Layer(descriptor, diff_id) for descriptor, diff_id in pairs]


def _origin(request: Request, found: Found, config_digest: str) -> Origin:
    name = request.name
    return Origin(
        name.registry if name else "",
        name.repository if name else request.label,
        text=name.text if name else request.label,
        tag=name.tag if name else request.version,
        version=(name.tag or name.digest) if name else request.version,
        manifest_digest=found.digest,
        config_digest=config_digest,
    )
