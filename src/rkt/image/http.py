"""HTTP for fetching: one client, its connections used again, and rules about where it may be led.

Rules, for each request and again for each redirect (at most ten):

- only https, and http where the caller's ``Access`` allows it for that host; never another scheme;
- credentials come from ``Access`` for exactly that host and leave over https only; what the caller put
  into ``Authorization`` or ``Cookie`` stays with the scheme, host and port it was meant for;
- a redirect, or an address found on a page (``guarded``), does not lead to link-local addresses.

A request is tried again where the network or an overloaded server may be different a moment later, a
few times and not for long.  Bodies come as they were sent (no content coding), and one that ends before
its ``Content-Length`` is an error.  Everything that goes wrong is an ``HttpError``; an address is shown
without its query, which may hold a secret.

::

    with Client(Access(insecure, config.auth)) as client:
        with client.request("GET", url, headers={"Range": "bytes=10-"}) as response:
            response.require(200, 206)
            while chunk := response.read(1 << 18): ...
        document = client.get(url, limit=1 << 20)     # small ones: Document(url, status, headers, body)
"""

from __future__ import annotations

import threading
import time
from urllib.parse import urljoin, urlsplit, urlunsplit

import rkt
from rkt.errors import RktError
from rkt.image.insecure import InsecureOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from urllib.parse import SplitResult

    import urllib3

    from rkt.config.kinds import Credentials
    from rkt.image.connections import Pools, Tls

USER_AGENT = f"rkt/{rkt.VERSION}"
MAX_REDIRECTS = 10
ATTEMPTS = 3
DOCUMENT_SECONDS = 120.0
"""A small document that takes longer is not waited for."""
CHUNK = 1 << 18
_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (429, 502, 503, 504)
_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_PRIVATE = ("authorization", "cookie")
_NO_TLS = "the server does not speak TLS"
_PLAIN_HTTP = "http can be allowed with --insecure-options=http"


class HttpError(RktError):
    """A server could not be reached, broke off, or gave an answer nobody asked for.

    ``status`` is that of the answer, 0 where there was none.
    """

    __slots__ = ("status",)

    def __init__(self, message: str, hint: str = "", *, status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class TransferError(HttpError):
    """The connection failed; another attempt may succeed."""


class Access:
    """How hosts may be reached; ``host`` is ``name[:port]`` as it stands in the URL.

    Subclasses answer for other kinds of servers, such as registries with settings of their own.
    """

    __slots__ = ("_credentials", "_insecure")

    def __init__(
        self, insecure: Iterable[str] = (), credentials: Mapping[str, Credentials] | None = None
    ) -> None:
        """``insecure``: names of insecure options; ``credentials``: the configured ones by host."""
        self._insecure = InsecureOptions(insecure)
        self._credentials = credentials or {}

    def plain(self, host: str) -> bool:
        """Whether http without TLS will do."""
        return self._insecure.http

    def tls(self, host: str) -> Tls:
        """Whose certificates are believed."""
        from rkt.image.connections import Tls

        return Tls(verify=not self._insecure.tls)

    def headers(self, method: str, url: str) -> dict[str, str]:
        """The headers that identify us to the host of an https URL."""
        if not self._credentials:
            return {}
        from rkt.image import credentials

        return credentials.headers(self._credentials, method, url)


class Response:
    """One answer; a context manager that gives its connection back.

    ``url`` is where it finally came from; ``secure`` whether each step there was https; ``status`` may be
    any but those of redirects.
    """

    __slots__ = ("_raw", "headers", "secure", "status", "url")

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str, *, secure: bool) -> None:
        self._raw = raw
        self.url = url
        self.secure = secure
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers

    @property
    def length(self) -> int | None:
        """The bytes of the body, where the server said how many."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() else None

    def header(self, name: str) -> str:
        """A header, "" when the answer has none; names are case-insensitive."""
        return self.headers.get(name, "")

    def require(self, *statuses: int) -> None:
        """Raises HttpError ``bad HTTP status code: N`` unless the status is one of these."""
        if self.status not in statuses:
            raise HttpError(f"bad HTTP status code: {self.status}", status=self.status)

    def read(self, size: int = CHUNK, /) -> bytes:
        """What has arrived, at most ``size`` bytes; b"" at the end.  Raises TransferError."""
        import urllib3

        try:
            chunk: bytes = self._raw.read1(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransferError(f"download from {shown(self.url)} broke off: {_reason(error)}") from None
        return chunk

    def read_all(self, limit: int) -> bytes:
        """The whole body.  Raises HttpError when it is larger than ``limit`` bytes or takes for ever."""
        end = time.monotonic() + DOCUMENT_SECONDS
        parts = []
        left = limit
        while chunk := self.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise HttpError(f"{shown(self.url)} is larger than {limit} bytes")
            if time.monotonic() > end:
                raise TransferError(f"{shown(self.url)} did not arrive within {DOCUMENT_SECONDS:.0f} seconds")
            parts.append(chunk)
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end."""
        if self._raw.closed:
            self._raw.release_conn()
        else:
            self._raw.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Document:
    """A small answer, read to its end."""

    __slots__ = ("body", "headers", "status", "url")

    def __init__(self, url: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body

    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Client:
    """Asks servers; a context manager, safe between threads.  ``notify`` gets lines for ``--debug``."""

    __slots__ = ("_access", "_lock", "_notify", "_pools")

    def __init__(self, access: Access, notify: Callable[[str], object] = lambda _: None) -> None:
        self._access = access
        self._notify = notify
        self._lock = threading.Lock()
        self._pools: Pools | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._pools is not None:
            self._pools.close()
            self._pools = None

    def get(
        self,
        url: str,
        *,
        limit: int,
        headers: Mapping[str, str] | None = None,
        plain: bool = False,
        guarded: bool = False,
    ) -> Document:
        """A document of at most ``limit`` bytes, with whatever status."""
        with self.request("GET", url, headers=headers, plain=plain, guarded=guarded) as response:
            return Document(response.url, response.status, response.headers, response.read_all(limit))

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        plain: bool = False,
        guarded: bool = False,
    ) -> Response:
        """Ask, following redirects of GET and HEAD; the body of the answer is not read yet.

        ``plain``: http will do for this request, whatever ``Access`` says.  ``guarded``: the URL was not
        chosen by the user.  Raises HttpError.
        """
        own = dict(headers or {})
        first = _origin(split(url))
        secure = True
        for _ in range(MAX_REDIRECTS + 1):
            secure = secure and split(url).scheme == "https"
            raw = self._ask(method, url, own, body=body, plain=plain, guarded=guarded)
            target = raw.headers.get("Location", "")
            if raw.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return Response(raw, url, secure=secure)
            raw.close()
            if not target:
                raise HttpError(f"redirect of {shown(url)} says not where to", status=raw.status)
            url = self._redirected(url, target)
            guarded = True
            if _origin(split(url)) != first:
                own = {name: value for name, value in own.items() if name.lower() not in _PRIVATE}
        raise HttpError(f"stopped after {MAX_REDIRECTS} redirects")

    def _redirected(self, url: str, target: str) -> str:
        try:
            joined = urljoin(url, target)
            parts = split(joined)
        except (ValueError, HttpError) as error:
            raise HttpError(f"refusing the redirect of {shown(url)}: {error}") from None
        self._notify(f"redirected to {shown(joined)}")
        return urlunsplit(parts._replace(fragment=""))

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: bytes | None,
        plain: bool,
        guarded: bool,
    ) -> urllib3.BaseHTTPResponse:
        """One hop, with its attempts."""
        parts = split(url)
        secure = parts.scheme == "https"
        if not secure and not plain and not self._access.plain(parts.netloc):
            raise HttpError(
                f"refusing to use {shown(url)}: http is not allowed",
                hint=_PLAIN_HTTP,
            )
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if secure:
            sent.update(self._access.headers(method, url))
        sent.update(headers)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                raw = self._send(method, parts, sent, body=body, guarded=guarded)
            except TransferError as error:
                if attempt == ATTEMPTS or method == "POST":
                    raise
                self._notify(f"trying again: {error}")
                time.sleep(_PAUSE * attempt)
                continue
            if raw.status in _TRY_AGAIN and attempt < ATTEMPTS:
                raw.close()
                self._notify(f"trying again: {shown(url)} answered {raw.status}")
                time.sleep(_pause(raw.headers.get("Retry-After", ""), attempt))
                continue
            return raw
        raise AssertionError("the last attempt returns or raises")

    def _send(
        self,
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        *,
        body: bytes | None,
        guarded: bool,
    ) -> urllib3.BaseHTTPResponse:
        """One attempt; TransferError where another may help, HttpError where it will not."""
        import urllib3

        from rkt.image.connections import Pools

        with self._lock:
            if self._pools is None:
                self._pools = Pools()
            pools = self._pools
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        tls = self._access.tls(parts.netloc)
        manager = pools.manager(parts.scheme, host, port, tls=tls, guarded=guarded)
        url = urlunsplit(parts._replace(fragment=""))
        try:
            return manager.request(
                method,
                url,
                headers=headers,
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            kind = TransferError if _is_passing(error) else HttpError
            way = f" (through the proxy {manager.proxy.host})" if manager.proxy else ""
            reason = _reason(error)
            hint = _PLAIN_HTTP if reason == _NO_TLS else ""
            raise kind(f"cannot get {shown(url)}: {reason}{way}", hint) from None


def split(url: str) -> SplitResult:
    """The parts of an http or https URL; raises HttpError for what is none, or holds a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise HttpError(f'"{url}" is no valid URL: {error}') from None
    if parts.scheme not in ("http", "https"):
        raise HttpError(f'"{shown(url)}" is neither https nor http')
    if not host or " " in url or not url.isprintable():
        raise HttpError(f'"{shown(url)}" is no valid URL')
    if "@" in parts.netloc:
        raise HttpError(
            f'"{shown(url)}" holds credentials',
            hint="credentials belong into the auth.d directory of the configuration",
        )
    return parts


def shown(url: str) -> str:
    """A URL for messages: without user, password, query and fragment."""
    base = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = base.partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + separator + authority.rpartition("@")[2] + slash + path


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _pause(retry_after: str, attempt: int) -> float:
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), _LONGEST_PAUSE)
    return _PAUSE * attempt


def _causes(error: BaseException) -> list[BaseException]:
    """An error of urllib3 and all it was made from."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        inside = [current.__cause__, getattr(current, "reason", None), *current.args]
        current = next((one for one in inside if isinstance(one, BaseException)), None)
    return found


def _is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later.

    Not where nobody listens, a name means nothing or both sides disagree about TLS: that is said at once.
    """
    import socket
    import ssl

    for one in _causes(error):
        if isinstance(one, socket.gaierror):
            return one.errno == socket.EAI_AGAIN
        if isinstance(one, ssl.SSLEOFError):
            return True
        if isinstance(one, ConnectionRefusedError | ssl.SSLError | ValueError):
            return False
    return True


def _reason(error: BaseException) -> str:
    """What happened, in few words: urllib3's own texts begin with the names of its classes."""
    import os
    import socket
    import ssl

    import urllib3

    for one in reversed(_causes(error)):
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({one.verify_message})"
        if isinstance(one, ssl.SSLError) and one.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return _NO_TLS
        if isinstance(one, ssl.SSLError):
            return f"TLS failed ({one.reason or one})"
        if isinstance(one, socket.gaierror):
            return f"the name of the host is not known ({one.strerror})"
        if isinstance(one, TimeoutError | urllib3.exceptions.TimeoutError):
            return "the server does not answer in time"
        if isinstance(one, urllib3.exceptions.IncompleteRead):
            return f"{one.partial} bytes came, {one.expected} are missing"
        if isinstance(one, OSError) and one.errno is not None and one.errno > 0:
            return os.strerror(one.errno).lower()
    return str(_causes(error)[-1]) or type(error).__name__
