"""Gets images into the store: reference -> source -> verification -> import -> dependencies -> tree.

A kind of source is one method of ``Fetcher``; all of them end in ``rkt.image.admission``.
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

    from rkt.appc.discovery import ImageName
    from rkt.appc.image import Dependency, ImageManifest
    from rkt.appc.labels import Label
    from rkt.config import Config
    from rkt.image.admission import Admission
    from rkt.image.http import Client
    from rkt.image.keys import Reviewer
    from rkt.image.progress import Progress
    from rkt.image.reference import Reference
    from rkt.image.remote import RemoteFetcher, Target
    from rkt.store.store import Store
    from rkt.trust.keystore import Keystore

NEVER, NEW, UPDATE = "never", "new", "update"

# uname(2) -> label arch; what is not here has the same name.
_ARCHITECTURES = {"x86_64": "amd64", "i686": "i386", "i586": "i386", "i486": "i386", "armv8l": "armv7l"}


def host_labels() -> dict[str, str]:
    """The labels os and arch of this machine, which a name is looked up with unless it says otherwise."""
    machine = os.uname().machine
    return {"os": "linux", "arch": _ARCHITECTURES.get(machine, machine)}


class Network:
    """What only fetching over the network needs; asked for when it comes to that.

    ``config`` gives the configuration with its credentials; ``progress`` what shows downloads; ``reviewer``
    who is asked about keys found on the way, None: no keys are looked for.
    """

    __slots__ = ("config", "progress", "reviewer")

    def __init__(
        self,
        config: Callable[[], Config] | None = None,
        progress: Callable[[], Progress] | None = None,
        reviewer: Callable[[], Reviewer] | None = None,
    ) -> None:
        self.config = config
        self.progress = progress
        self.reviewer = reviewer


class Fetcher:
    """Finds or fetches images for one command; a context manager when it may use the network.

    ``keystore`` None, or the insecure option ``image``: signatures are not looked at.  ``pull_policy`` is
    never, new or update.  ``notify`` gets lines for the user, with ``debug`` also where images come from.
    ``render``: make the trees of fetched images; None: as root on a kernel with overlay.  ``finish`` false:
    the caller makes those that were not made while an image came in.  ``installed``: they came with rkt, and
    their signatures are not looked at.
    """

    __slots__ = (
        "_admission",
        "_client",
        "_debug",
        "_finish",
        "_insecure",
        "_installed",
        "_keystore",
        "_network",
        "_notify",
        "_policy",
        "_render",
        "_store",
    )

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
        finish: bool = True,
        network: Network | None = None,
        installed: bool = False,
    ) -> None:
        self._store = store
        self._installed = installed
        self._insecure = InsecureOptions(insecure)
        self._keystore = None if self._insecure.image or installed else keystore
        self._policy = pull_policy
        self._notify = notify
        self._debug = debug
        self._render = _can_render() if render is None else render
        self._finish = self._render and finish
        self._network = network or Network()
        self._client: Client | None = None
        self._admission: Admission | None = None

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def fetch(self, reference: str | Reference, signature: str | None = None) -> str:
        """The key of an image, in the store with all it depends on.

        ``signature`` is the path of its signature when that does not lie beside it.  Raises RktError or
        OSError; an image that was refused leaves nothing behind.
        """
        if isinstance(reference, str):
            reference = references.parse(reference)
        key = self._fetch_one(reference, signature or "")
        if self._store.manifest(key).dependencies:
            from rkt.image import dependencies

            dependencies.fetch_all(self._store, key, self._fetch_dependency, believed=self._is_believed)
        if self._finish:
            try:
                self._store.render(key)
            except (RktError, OSError) as error:
                raise RktError(f'error rendering tree store of image "{reference.text}"') from error
        return key

    def _fetch_one(self, reference: Reference, signature: str) -> str:
        if reference.kind == references.ID:
            return self._store.resolve(reference.location)
        if reference.kind == references.FILE:
            return self._fetch_file(reference.location, signature)
        if reference.kind == references.NAME:
            assert reference.name is not None
            return self._fetch_name(reference.name, reference.text, signature)
        if reference.kind == references.HTTP:
            return self._fetch_url(reference.location, signature)
        return self._fetch_container(reference)

    def _fetch_file(self, path: str, signature: str) -> str:
        from rkt.image import source as sources

        self._diagnose(f"using image from file {path}")
        admission = self._door()
        detached = admission.read_signature(signature or references.signature_location(path))
        try:
            fd = sources.open_file(path)
        except OSError as error:
            raise Context("error opening ACI file") from error
        with open(fd, "rb", buffering=0) as file, admission.verify(file, path, detached) as verified:
            return admission.admit(verified, path, render=self._render)

    def _fetch_container(self, reference: Reference) -> str:
        from rkt.image.oci.containers import Containers

        containers = Containers(
            self._store,
            self._keystore,
            insecure=self._insecure,
            policy=self._policy,
            host=host_labels(),
            config=self._network.config,
            notify=self._notify,
            diagnose=self._diagnose,
            progress=self._network.progress,
            # As root layers are for workers to take apart, and for all images to share.
            render=self._render or os.geteuid() == 0,
        )
        return containers.fetch(reference)

    def _fetch_url(self, url: str, signature: str) -> str:
        from rkt.image import http
        from rkt.image.remote import Target, signature_url

        http.split(url)
        target = Target(url, signature_url(url), signature_file=signature, render=self._render)
        return self._remote().fetch(target)

    def _fetch_name(self, name: ImageName, text: str, signature: str = "", *, guarded: bool = False) -> str:
        """``guarded``: the name comes from another image, not from the user."""
        wanted = {**host_labels(), **name.labels}
        if self._policy != UPDATE:
            key = self._stored(name.name, wanted, guarded=guarded)
            if key is not None:
                self._diagnose(f"using image from local store for image name {text}")
                return key
        if self._policy == NEVER:
            raise ImageNotFoundError(f'unable to fetch image "{text}": it is not in the local store')
        return self._remote().fetch(self._discover(name, wanted, signature, guarded=guarded))

    def _stored(self, name: str, wanted: dict[str, str], *, guarded: bool) -> str | None:
        """The store's image of a name; a dependency has to be verified as is asked for now."""
        key = self._store.find(name, _labels(wanted))
        if key is not None and guarded and not self._is_believed(key):
            self._diagnose(f"image {key} of the local store was not verified")
            return None
        return key

    def _is_believed(self, key: str) -> bool:
        """Whether an image of the store may be part of another one: not if it came in unverified."""
        if self._keystore is None:
            return True
        verified = self._store.verification(key)
        return verified is None or verified[0] != "none"

    def _discover(self, name: ImageName, wanted: dict[str, str], signature: str, *, guarded: bool) -> Target:
        """Where an image is, having offered the user the keys for it."""
        from rkt.appc.discovery import ImageName, check_found
        from rkt.image import keys
        from rkt.image.discovery import Discovery
        from rkt.image.remote import Target

        self._diagnose(f"searching for app image {name.name}")
        image = ImageName(name.name, wanted)
        discovery = Discovery(self._connect(), self._diagnose)
        endpoint = discovery.endpoint(image, insecure_http=self._insecure.http, guarded=guarded)
        reviewer = self._network.reviewer
        if self._keystore is not None and reviewer is not None and not signature:
            plain = self._insecure.pubkey
            keys.discover(
                self._connect(),
                discovery,
                self._keystore,
                name.name,
                reviewer=reviewer(),
                plain=plain,
                guarded=guarded,
            )

        def check(manifest: ImageManifest) -> None:
            check_found(image, manifest)

        return Target(
            endpoint.aci,
            endpoint.asc,
            signature_file=signature,
            guarded=True,
            latest=not name.labels.get("version"),
            check=check,
            # A dependency becomes part of another image's tree.
            render=self._render and not guarded,
        )

    def _fetch_dependency(self, dependency: Dependency) -> str:
        """As a name is fetched; where no web site speaks for it, the store's image does for any policy."""
        from rkt.appc.discovery import ImageName
        from rkt.image.discovery import DiscoveryError

        name = ImageName(dependency.image_name, {label.name: label.value for label in dependency.labels})
        try:
            return self._fetch_name(name, str(name), guarded=True)
        except DiscoveryError as error:
            key = self._store.find(name.name, _labels(name.labels))
            if key is None:
                raise _unavailable(name) from error
            if not self._is_believed(key):
                unverified = RktError(
                    "the image in the local store was not verified, and no other is found",
                )
                raise _unavailable(name) from unverified
            return key
        except RktError as error:
            raise _unavailable(name) from error

    def _remote(self) -> RemoteFetcher:
        from rkt.image import progress
        from rkt.image.remote import RemoteFetcher

        shown = self._network.progress
        return RemoteFetcher(
            self._store,
            self._door(),
            self._connect(),
            policy=self._policy,
            progress=shown() if shown else progress.Progress(),
            notify=self._notify,
            diagnose=self._diagnose,
        )

    def _connect(self) -> Client:
        if self._client is None:
            from rkt.image.http import Access, Client

            config = self._network.config
            credentials = config().auth if config else {}
            self._client = Client(Access(self._insecure, credentials), self._diagnose)
        return self._client

    def _door(self) -> Admission:
        if self._admission is None:
            from rkt.image.admission import Admission

            unverified = "installed" if self._installed else "none"
            self._admission = Admission(self._store, self._keystore, self._notify, unverified=unverified)
        return self._admission

    def _diagnose(self, text: str) -> None:
        if self._debug:
            self._notify(text)


def _unavailable(name: ImageName) -> RktError:
    return RktError(f'dependency "{name}" cannot be fetched')


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
