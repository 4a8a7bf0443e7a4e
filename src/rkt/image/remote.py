"""Images from URLs: the copy in the store if it will do, else signature, download, verification, import.

What a pull policy means for a URL:

- ``never``: the store's copy, or nothing;
- ``new``: the store's copy, else a download;
- ``update``: the store's copy while its ``max-age`` lasts, else the server is asked, with its ``ETag``.

A copy that was fetched without verification does not count where verification is needed.  The signature
comes first: an image that no trusted key can have signed is not asked for at all.  Only where the server
makes the signature later (202) the image is downloaded first, and verified when the signature is there.
"""

from __future__ import annotations

import time

from rkt.errors import RktError
from rkt.image import partial as partials
from rkt.image.download import ChangedError, Download, Request
from rkt.image.http import HttpError
from rkt.store.index import Remote
from rkt.store.store import ImageNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.image.admission import Admission, Check
    from rkt.image.http import Client
    from rkt.image.partial import Partial
    from rkt.image.progress import Progress
    from rkt.store.store import Store

NEVER, NEW, UPDATE = "never", "new", "update"
_ATTEMPTS = 3
_ACCEPTED = 202
_SECOND = 10**9


class Target:
    """One image on a server.

    ``signature_url`` is where its signature is, ``signature_file`` a local one used instead ("" for none).
    ``guarded``: the URL comes from a page; ``latest``: no version was asked for; ``check`` gets the manifest
    and raises RktError for an image that is not the one asked for.  ``render``: its tree is wanted next.
    """

    __slots__ = ("check", "guarded", "latest", "render", "signature_file", "signature_url", "url")

    def __init__(
        self,
        url: str,
        signature_url: str,
        *,
        signature_file: str = "",
        guarded: bool = False,
        latest: bool = False,
        check: Check = lambda _: None,
        render: bool = False,
    ) -> None:
        self.url = url
        self.render = render
        self.signature_url = signature_url
        self.signature_file = signature_file
        self.guarded = guarded
        self.latest = latest
        self.check = check


class RemoteFetcher:
    """Fetches images from servers into a store."""

    __slots__ = ("_admission", "_client", "_diagnose", "_notify", "_policy", "_progress", "_store")

    def __init__(
        self,
        store: Store,
        admission: Admission,
        client: Client,
        *,
        policy: str,
        progress: Progress,
        notify: Callable[[str], object],
        diagnose: Callable[[str], object],
    ) -> None:
        """``notify`` gets what every user sees, ``diagnose`` what ``--debug`` adds."""
        self._store = store
        self._admission = admission
        self._client = client
        self._policy = policy
        self._progress = progress
        self._notify = notify
        self._diagnose = diagnose

    def fetch(self, target: Target) -> str:
        """The key of the image, in the store by then."""
        url = target.url
        known = self._known(url)
        if known is not None and self._policy != UPDATE:
            self._diagnose(f"using image from local store for url {url}")
            return self._reuse(target, known)
        if self._policy == NEVER:
            raise self._missing(url)
        if known is not None and _is_fresh(known):
            self._notify(f"image for {url} isn't expired, not fetching.")
            return self._reuse(target, known)
        self._notify(f'remote fetching from URL "{url}"')
        return self._once(target, known)

    def _known(self, url: str) -> Remote | None:
        """The store's copy of what the URL gave, if it was verified as it has to be now."""
        remote = self._store.remote(url)
        if remote is not None and self._admission.needs_signature and not remote.signature_url:
            return None
        return remote

    def _reuse(self, target: Target, known: Remote) -> str:
        """The key of the store's copy, if it is the one asked for: other labels may lead to the same URL."""
        target.check(self._store.manifest(known.blob_key))
        return known.blob_key

    def _missing(self, url: str) -> RktError:
        if self._store.remote(url) is not None:
            return RktError(
                f'unable to fetch image from URL "{url}": its copy in the local store was not verified',
                hint="fetch it again with --pull-policy=update, or relax with --insecure-options=image",
            )
        return ImageNotFoundError(f'unable to fetch image from URL "{url}": it is not in the local store')

    def _once(self, target: Target, known: Remote | None) -> str:
        """Of several processes that fetch a URL at once, one does the work and the others take the result."""
        self._store.places.make()
        path = partials.path_of(self._store.places.temporary, target.url)
        began = time.time_ns()
        while True:
            partial = partials.acquire(
                path, lambda: self._notify(f"waiting for another fetch of {target.url}")
            )
            if partial is not None:
                with partial:
                    return self._download(target, known, partial)
            result = self._known(target.url)
            if result is not None and result.download_time >= began:
                return self._reuse(target, result)

    def _download(self, target: Target, known: Remote | None, partial: Partial) -> str:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._transfer(target, known, partial)
            except ChangedError as error:
                if attempt == _ATTEMPTS:
                    raise
                self._notify(f"{error}, beginning anew")
            except HttpError:
                raise
            except RktError:
                # All of it came and it is not an image, or not one to be trusted.
                partial.discard()
                raise
        raise AssertionError("the last attempt returns or raises")

    def _transfer(self, target: Target, known: Remote | None, partial: Partial) -> str:
        signature = self._signature(target)
        deferred = signature is None and self._admission.needs_signature
        request = Request(
            target.url,
            etag=known.etag if known else "",
            guarded=target.guarded,
            limit=self._store.max_image_size,
        )
        download = Download(self._client, request, partial, progress=self._progress, notify=self._diagnose)
        with download:
            if deferred:
                if not self._open(download):
                    return self._unchanged(target, known, download, partial)
                download.drain()
                signature = self._signature(target)
                if signature is None:
                    raise RktError("error downloading the signature file") from HttpError(
                        "the server has accepted to make it, but it is still not there"
                    )
                download.rewind()
            with self._admission.verify(download, target.url, signature) as verified:
                if not deferred and not self._open(download):
                    return self._unchanged(target, known, download, partial)
                key = self._admission.admit(
                    verified, target.url, latest=target.latest, check=target.check, render=target.render
                )
            self._note(target, key, download)
        # Whoever waits for the lock finds the result only if it is noted before.
        partial.discard()
        return key

    def _open(self, download: Download) -> bool:
        try:
            return download.open()
        except HttpError as error:
            raise _renamed(error, "error downloading ACI") from error

    def _unchanged(self, target: Target, known: Remote | None, download: Download, partial: Partial) -> str:
        if known is None:
            raise HttpError("bad HTTP status code: 304", status=304)
        self._diagnose(f"image for {target.url} has not changed, using the copy in the local store")
        key = self._reuse(target, known)
        self._note(target, key, download)
        partial.discard()
        return key

    def _note(self, target: Target, key: str, download: Download) -> None:
        signature = target.signature_file or target.signature_url
        self._store.put_remote(
            Remote(
                target.url,
                key,
                signature_url=signature if self._admission.needs_signature else "",
                etag=download.etag,
                cache_max_age=download.cache_max_age,
                download_time=time.time_ns(),
            )
        )

    def _signature(self, target: Target) -> bytes | None:
        """The signature; None where none is needed, or the server makes it later."""
        if not self._admission.needs_signature:
            return None
        if target.signature_file:
            return self._admission.read_signature(target.signature_file)
        from rkt.trust.openpgp import MAX_SIGNATURE_SIZE

        self._diagnose(f"downloading signature from {target.signature_url}")
        try:
            with self._client.request("GET", target.signature_url, guarded=target.guarded) as response:
                response.require(200, _ACCEPTED)
                if response.status == _ACCEPTED:
                    self._diagnose("the server asked to fetch the signature later")
                    return None
                return response.read_all(MAX_SIGNATURE_SIZE)
        except HttpError as error:
            raise _renamed(error, "error downloading the signature file") from error


def _renamed(error: HttpError, message: str) -> HttpError:
    """What was being done, still recognised as a failure of the transfer."""
    return HttpError(message, status=error.status)


def _is_fresh(remote: Remote) -> bool:
    age = time.time_ns() - remote.download_time
    return 0 <= age < remote.cache_max_age * _SECOND


def signature_url(url: str) -> str:
    """Where the signature of an image at a URL is: ``.asc`` behind the path, the query stays."""
    from urllib.parse import urlsplit, urlunsplit

    from rkt.image.reference import signature_location

    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=signature_location(parts.path)))
