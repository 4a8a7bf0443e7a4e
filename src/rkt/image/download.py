"""One URL as a stream of bytes: first what an earlier attempt left, then what the server sends.

Each byte goes into the partial file before it is handed on, so that a process that ends at any moment
leaves what the next one resumes.  Resuming asks for the last byte we have and all behind it
(``Range``), if the file is still the one its validator names (``If-Range`` with a strong ``ETag``, else
``Last-Modified``; RFC 9110, sections 13.1.5 and 14).  Answers:

- 206 with exactly the range asked for, and the byte we know: it goes on;
- 200: another file; it begins anew.  When bytes of the old one have been handed on, they are worth nothing,
  and ``ChangedError`` makes the caller begin anew too;
- anything else is refused.

A connection that breaks is resumed the same way, as long as each attempt brings something.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.image.http import HttpError, TransferError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.image.http import Client, Response
    from rkt.image.partial import Partial
    from rkt.image.progress import Bar, Progress

MAX_FRUITLESS = 3
"""So many connections in a row may break without a byte."""
_RANGE_NOT_SATISFIABLE = 416


class ChangedError(RktError):
    """The file on the server was replaced while it was being downloaded."""


class Request:
    """What to download.

    ``etag``: that of the copy in the store, "" without one: if it still holds nothing is sent.  ``guarded``:
    the URL comes from a page, not from the user.  ``limit``: more bytes are refused.
    """

    __slots__ = ("etag", "guarded", "limit", "url")

    def __init__(self, url: str, *, etag: str = "", guarded: bool = False, limit: int) -> None:
        self.url = url
        self.etag = etag
        self.guarded = guarded
        self.limit = limit


class Download:
    """A readable over one URL; a context manager.  ``open`` first, then ``read`` to the end."""

    __slots__ = (
        "_bar",
        "_client",
        "_fruitless",
        "_notify",
        "_partial",
        "_position",
        "_progress",
        "_request",
        "_response",
        "cache_max_age",
        "etag",
        "total",
    )

    def __init__(
        self,
        client: Client,
        request: Request,
        partial: Partial,
        *,
        progress: Progress,
        notify: Callable[[str], object],
    ) -> None:
        self._client = client
        self._request = request
        self._partial = partial
        self._progress = progress
        self._notify = notify
        self._response: Response | None = None
        self._bar: Bar | None = None
        self._position = 0
        self._fruitless = 0
        self.etag = ""
        self.cache_max_age = 0
        self.total: int | None = None

    def open(self) -> bool:
        """Send the request; False when the copy in the store still is what the server has.

        Raises HttpError ``bad HTTP status code: N``.
        """
        etag = self._request.etag
        response = self._ask({"If-None-Match": etag} if etag else {})
        self.etag = response.header("ETag") or (etag if response.status == 304 else "")
        self.cache_max_age = max_age(response.header("Cache-Control"))
        if response.status == 304:
            response.close()
            return False
        self._accept(response)
        name = shown(self._request.url).rpartition("/")[2]
        self._bar = self._progress.start(name, done=self._partial.size, total=self.total)
        return True

    def read(self, size: int, /) -> bytes:
        """The next bytes, b"" at the end.  Raises ChangedError, TransferError, and HttpError."""
        if self._position < self._partial.size:
            data = self._partial.read(size, self._position)
            self._position += len(data)
            return data
        while True:
            try:
                data = self._receive(size)
            except TransferError as error:
                self._resume(error)
                continue
            self._position += len(data)
            return data

    def drain(self) -> None:
        """Download all of it into the partial file; it can be read again after ``rewind``."""
        self._position = self._partial.size
        while self.read(1 << 20):
            pass

    def rewind(self) -> None:
        """Hand everything on once more, from the partial file."""
        self._position = 0

    def close(self) -> None:
        """End the connection and the bar; what came stays readable."""
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._bar is not None:
            self._bar.finish()
            self._bar = None

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, size: int) -> bytes:
        if self._response is None:
            return b""
        data = self._response.read(size)
        if not data:
            if self.total is not None and self._partial.size < self.total:
                raise TransferError(f"{self.total - self._partial.size} bytes are missing")
            self.close()
            return b""
        if self._partial.size + len(data) > min(self._request.limit, self.total or self._request.limit):
            self._partial.restart("")
            raise HttpError(f"{shown(self._request.url)} sends more than it announced or is allowed")
        self._partial.append(data)
        self._fruitless = 0
        if self._bar is not None:
            self._bar.advance(len(data))
        return data

    def _resume(self, error: TransferError) -> None:
        """Go on after a connection broke; raises the last error where that is no use."""
        while self._partial.validator and self._fruitless < MAX_FRUITLESS:
            self._fruitless += 1
            self._notify(f"{error}, trying to resume")
            if self._response is not None:
                self._response.close()
            try:
                return self._accept(self._ask({}))
            except TransferError as again:
                error = again
        raise error

    def _ask(self, headers: dict[str, str]) -> Response:
        partial = self._partial
        if partial.size:
            headers["Range"] = f"bytes={partial.size - 1}-"
            headers["If-Range"] = partial.validator
        return self._client.request("GET", self._request.url, headers=headers, guarded=self._request.guarded)

    def _accept(self, response: Response) -> None:
        """Take the answer to ``_ask`` as the source of what is missing."""
        self._response = response
        if response.status == _RANGE_NOT_SATISFIABLE and self._partial.size:
            response.close()
            self._start_anew("")
            response = self._response = self._ask({})
        if response.status == 206 and self._partial.size:
            self._continue(response)
        else:
            response.require(200)
            self._start_anew(validator(response))
            self.total = response.length
        if self.total is not None and self.total > self._request.limit:
            raise HttpError(f"{shown(self._request.url)} is larger than {self._request.limit} bytes")
        if self._bar is not None:
            self._bar.restart(self._partial.size, self.total)

    def _start_anew(self, named: str) -> None:
        handed_on = self._position
        self._partial.restart(named)
        self._position = 0
        if handed_on:
            raise ChangedError(f"{shown(self._request.url)} was replaced while it was being downloaded")

    def _continue(self, response: Response) -> None:
        """Check that what comes is the range asked for, and belongs to what we have."""
        size = self._partial.size
        text = response.header("Content-Range")
        start, end, total = content_range(text)
        wrong = start != size - 1 or end < start or (total is not None and end >= total)
        known = validator(response)
        if not wrong and known and known != self._partial.validator:
            wrong = True
        first = b"" if wrong else response.read(1)
        if wrong or first != self._partial.read(1, size - 1):
            self._partial.restart("")
            raise HttpError(f'{shown(self._request.url)} answers with the wrong range "{text}"')
        self._notify(f"resuming at byte {size}")
        self.total = total


def validator(response: Response) -> str:
    """What names exactly this content in ``If-Range``: a strong ETag or a date; "" without either."""
    etag, date = response.header("ETag"), response.header("Last-Modified")
    if not (etag + date).isprintable():
        # a folded header; it could not be sent back
        return ""
    if etag.startswith('"') and etag.endswith('"') and len(etag) > 2:
        return etag
    return "" if etag else date


def content_range(text: str) -> tuple[int, int, int | None]:
    """First and last byte and the size of the whole, None for ``*``; (-1, -1, None) for what is no range."""
    unit, _, rest = text.strip().partition(" ")
    span, slash, total = rest.partition("/")
    first, dash, last = span.partition("-")
    if unit.lower() != "bytes" or not slash or not dash:
        return -1, -1, None
    if not all(word.isascii() and word.isdigit() for word in (first, last)):
        return -1, -1, None
    if total == "*":
        return int(first), int(last), None
    if not (total.isascii() and total.isdigit()):
        return -1, -1, None
    return int(first), int(last), int(total)


def max_age(cache_control: str) -> int:
    """The seconds for which an answer needs no asking again (RFC 9111, section 5.2.2); 0 for none."""
    age = 0
    for directive in cache_control.split(","):
        name, _, value = directive.strip().lower().partition("=")
        if name in ("no-store", "no-cache"):
            return 0
        value = value.strip('"')
        if name == "max-age" and value.isascii() and value.isdigit():
            age = min(int(value), 1 << 31)
    return age
