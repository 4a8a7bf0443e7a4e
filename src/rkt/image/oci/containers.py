"""Container images for ``rkt.image.fetch``: where a reference leads to, and what is there already."""

from __future__ import annotations

from rkt.image import reference as references
from rkt.image.oci import layers as layering
from rkt.image.oci import names
from rkt.image.oci.fetch import ContainerFetcher, Request
from rkt.store.store import ImageNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.config import Config
    from rkt.image.insecure import InsecureOptions
    from rkt.image.progress import Progress
    from rkt.image.reference import Reference
    from rkt.store.store import Store
    from rkt.trust.keystore import Keystore

_NEVER, _UPDATE = "never", "update"


class Containers:
    """Fetches container images for one command; parameters as those of ``rkt.image.fetch.Fetcher``."""

    __slots__ = (
        "_config",
        "_diagnose",
        "_fetcher",
        "_insecure",
        "_keystore",
        "_limits",
        "_notify",
        "_policy",
        "_store",
    )

    def __init__(
        self,
        store: Store,
        keystore: Keystore | None,
        *,
        insecure: InsecureOptions,
        policy: str,
        host: dict[str, str],
        config: Callable[[], Config] | None = None,
        notify: Callable[[str], object] = lambda _: None,
        diagnose: Callable[[str], object] = lambda _: None,
        progress: Callable[[], Progress] | None = None,
        render: bool = False,
    ) -> None:
        self._store = store
        self._keystore = keystore
        self._insecure = insecure
        self._policy = policy
        self._config = config
        self._limits = layering.Limits(download=store.max_image_size, content=store.max_image_size)
        self._notify = notify
        self._diagnose = diagnose
        self._fetcher = ContainerFetcher(
            store,
            keystore,
            host=host,
            limits=self._limits,
            notify=notify,
            diagnose=diagnose,
            progress=progress() if progress else None,
            render=render,
        )

    def fetch(self, reference: Reference) -> str:
        """The key of the image in the store.  Raises RktError or OSError."""
        if reference.kind == references.DOCKER:
            return self._fetch_registry(names.parse(reference.location))
        return self._fetch_local(reference)

    def _fetch_local(self, reference: Reference) -> str:
        from rkt.image.oci import local
        from rkt.image.oci.docker_archive import DockerArchive
        from rkt.image.oci.layout import Layout

        place = local.Place(reference.text, reference.location)
        self._diagnose(f"using image from {place.path}")
        self._store.places.make()
        scratch, limit = self._store.places.temporary, self._limits.content
        if reference.kind == references.OCI:
            with local.open_files(place, scratch=scratch, limit=limit) as files:
                return self._fetcher.fetch(*local.layout_request(place, Layout(files, place.path)))
        archive = local.open_archive(place, scratch=scratch, limit=limit)
        with archive:
            source = DockerArchive(archive, place.path)
            return self._fetcher.fetch(*local.archive_request(place, source))

    def _fetch_registry(self, name: names.ContainerName) -> str:
        url = f"docker://{name}"
        text = name.text
        if self._policy != _UPDATE:
            key = self._known(url, name)
            if key is not None:
                self._diagnose(f"using image from local store for image name {text}")
                return key
        if self._policy == _NEVER:
            raise ImageNotFoundError(f'unable to fetch image "{text}": it is not in the local store')
        from rkt.image.oci.registry import Registry

        request = Request(text, name.digest or name.tag, pinned=name.digest, name=name)
        with Registry(name, self._insecure, self._config, self._diagnose) as registry:
            return self._fetcher.fetch(registry, request, lookaside=registry.lookaside, url=url)

    def _known(self, url: str, name: names.ContainerName) -> str | None:
        """The image in the store that came from there, if it was verified as is asked for now."""
        remote = self._store.remote(url)
        if remote is None or not self._store.is_complete(remote.blob_key):
            return None
        verified = self._store.verification(remote.blob_key)
        unverified = verified is None or verified[0] == "none"
        if self._keystore is not None and unverified and not name.digest:
            return None
        return remote.blob_key
