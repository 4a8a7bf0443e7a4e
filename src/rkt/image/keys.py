"""Keys from the network: fetching them, and finding and reviewing those of an image about to be fetched."""

from __future__ import annotations

from rkt.errors import RktError, one_line
from rkt.image.http import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.image.discovery import Discovery
    from rkt.image.http import Client
    from rkt.trust.keystore import Keystore

    Ask = Callable[[str], str]


class Reviewer:
    """How keys are reviewed.

    ``ask`` puts a question to the user, None where nobody can be asked.  ``accept`` takes all keys unasked,
    ``accept_https`` those that came over https.  ``result`` gets what was decided, ``notify`` all else.
    """

    __slots__ = ("accept", "accept_https", "ask", "notify", "result")

    def __init__(
        self,
        *,
        ask: Ask | None = None,
        accept: bool = False,
        accept_https: bool = False,
        result: Callable[[str], object] = lambda _: None,
        notify: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.ask = ask
        self.accept = accept
        self.accept_https = accept_https
        self.result = result
        self.notify = notify

    def add(self, keystore: Keystore, data: bytes, *, prefix: str, location: str, secure: bool) -> bool:
        """Review the keys of a file and store them for ``prefix``; whether they were accepted."""
        from rkt.trust import review

        how = review.Review(
            ask=self.ask,
            accept=self.accept or (self.accept_https and secure),
            result=self.result,
            notify=self.notify,
        )
        return review.add_keys(keystore, data, prefix=prefix, location=location, review=how)


def download(client: Client, url: str, *, plain: bool, guarded: bool = False) -> tuple[bytes, bool]:
    """A key file, and whether each step on the way to it was https.

    ``plain``: http will do.  Raises RktError.
    """
    from rkt.trust.openpgp import MAX_KEY_SIZE

    try:
        with client.request("GET", url, plain=plain, guarded=guarded) as response:
            response.require(200)
            return response.read_all(MAX_KEY_SIZE), response.secure
    except HttpError as error:
        raise HttpError(f"error accessing the key {url}", error.hint, status=error.status) from error


def discover(
    client: Client,
    discovery: Discovery,
    keystore: Keystore,
    name: str,
    *,
    reviewer: Reviewer,
    plain: bool,
    guarded: bool = False,
) -> None:
    """Offer the user the keys that the web site of an image names, unless one is trusted for it already.

    An accepted key is trusted for ``name`` and what is below it, however much more the page may claim.  What
    goes wrong here is told and no more: a signature that cannot be verified says the rest.
    """
    notify = reviewer.notify
    if keystore.keys_for(name):
        notify(f'keys already exist for prefix "{name}", not fetching again')
        return
    try:
        locations = discovery.keys(name, insecure_http=plain, guarded=guarded)
    except RktError as error:
        notify(f'no keys found for "{name}": {one_line(error)}')
        return
    for location in locations:
        try:
            data, secure = download(client, location, plain=plain, guarded=True)
            reviewer.add(keystore, data, prefix=name, location=location, secure=secure)
        except (RktError, OSError) as error:
            notify(one_line(error))
