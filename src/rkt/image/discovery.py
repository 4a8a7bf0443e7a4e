"""Meta discovery over the network: the pages ``rkt.appc.discovery`` asks for.

A page may lead anywhere, so what it names is fetched with the client's ``guarded``; plain http only counts
where the caller allows it.
"""

from __future__ import annotations

from rkt.appc import discovery
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.appc.discovery import Attempt, Endpoint, Get, ImageName
    from rkt.image.http import Client

PAGE_LIMIT = 4 << 20
_SCHEMES = ("https://", "http://")


class DiscoveryError(RktError):
    """No page says where an image, or the keys for it, can be found."""


class Discovery:
    """Asks the web sites of names; ``notify`` gets why one was of no use."""

    __slots__ = ("_client", "_notify")

    def __init__(self, client: Client, notify: Callable[[str], object]) -> None:
        self._client = client
        self._notify = notify

    def endpoint(self, image: ImageName, *, insecure_http: bool, guarded: bool = False) -> Endpoint:
        """Where an image and its signature are: the first address on the page that we can fetch from.

        ``guarded``: the name does not come from the user but from another image.  Raises DiscoveryError.
        """
        get = self._getter(plain=False, guarded=guarded)
        found, attempts = discovery.find_endpoints(image, get, insecure_http=insecure_http)
        usable = [one for one in found if one.aci.lower().startswith(_SCHEMES)]
        if usable:
            return usable[0]
        if found:
            raise DiscoveryError(f"discovery failed: {found[0].aci[:400]} is no https address")
        raise self._failed(attempts)

    def keys(self, name: str, *, insecure_http: bool, guarded: bool = False) -> list[str]:
        """The addresses of the keys for images called ``name``.  Raises DiscoveryError."""
        get = self._getter(plain=insecure_http, guarded=guarded)
        image = discovery.ImageName(name)
        found, attempts = discovery.find_public_keys(image, get, insecure_http=insecure_http)
        if not found:
            raise self._failed(attempts)
        return found

    def _getter(self, *, plain: bool, guarded: bool) -> Get:
        def get(address: str) -> tuple[int, str]:
            page = self._client.get(address, limit=PAGE_LIMIT, plain=plain, guarded=guarded)
            return page.status, page.text()

        return get

    def _failed(self, attempts: list[Attempt]) -> DiscoveryError:
        for attempt in attempts:
            self._notify(f'"{attempt.prefix}": {attempt.reason}')
        # A page that is there, but of no use, says more than the last one missing.
        telling = next((one for one in attempts if one.answered), attempts[-1])
        return DiscoveryError(f"discovery failed: {telling.reason}")
