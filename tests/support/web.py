"""A small web server for tests: https with its own authority, http, and a proxy that leads every name to it.

Programs under test get ``site.environment``: the authority as ``SSL_CERT_FILE`` and the proxy, so that
``https://example.com/`` ends here with a certificate for that name.  ``https://127.0.0.1:PORT`` is reached
without the proxy.  What is served and how badly is set per path in ``site.pages``; what was asked for is in
``site.requests``.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.server
import ipaddress
import os
import select
import socket
import ssl
import threading
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.waiting import PATIENCE, until

HOSTS = ("localhost", "example.com", "*.example.com", "other.test", "keys.test", "cdn.test")


class Page:
    """What one path answers.

    ``cuts``: for each of the next answers, after how many bytes of the body the connection ends; ``rate``:
    bytes a second; ``hold``: an event that the body waits for; ``statuses``: given out first, one a request;
    ``wrong_range``: what 206 answers claim; ``needs``: the value of Authorization that is wanted,
    ``challenge`` what says so.
    """

    def __init__(self, body: bytes = b"", status: int = 200, **options: Any) -> None:
        self.body = body
        self.status = status
        self.headers: dict[str, str] = options.pop("headers", {})
        self.etag: str = options.pop("etag", "")
        self.last_modified: str = options.pop("last_modified", "")
        self.ranges: bool = options.pop("ranges", True)
        self.cuts: list[int] = options.pop("cuts", [])
        self.rate: int = options.pop("rate", 0)
        self.hold: threading.Event | None = options.pop("hold", None)
        self.statuses: list[int] = options.pop("statuses", [])
        self.wrong_range: str = options.pop("wrong_range", "")
        self.needs: str = options.pop("needs", "")
        self.challenge: str = options.pop("challenge", "")
        self.length: int | None = options.pop("length", None)
        assert not options, options


def redirect(target: str, status: int = 302) -> Page:
    return Page(status=status, headers={"Location": target})


def tagged(body: bytes, **options: Any) -> Page:
    """A page with the ETag of its content."""
    return Page(body, etag=f'"{hashlib.sha256(body).hexdigest()[:16]}"', **options)


class Asked:
    """One request as it came; ``host`` as in its Host header."""

    def __init__(self, method: str, scheme: str, host: str, path: str, headers: dict[str, str]) -> None:
        self.method, self.scheme, self.host, self.path, self.headers = method, scheme, host, path, headers
        self.sent = 0

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")

    def __repr__(self) -> str:
        return f"{self.method} {self.scheme}://{self.host}{self.path} ({self.sent} bytes)"


class Site:
    """The servers; a context manager.  ``pages`` is keyed by ``/path?query`` or ``host/path?query``."""

    def __init__(self, directory: str) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[Asked] = []
        self.connects: list[str] = []
        self.lock = threading.Lock()
        self.authority, certificate, key = make_certificates(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._tls = _Server(self, "https")
        self._tls.socket = context.wrap_socket(
            self._tls.socket, server_side=True, do_handshake_on_connect=False
        )
        self._plain = _Server(self, "http")
        self.https_port = self._tls.server_port
        self.http_port = self._plain.server_port
        for server in (self._tls, self._plain):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.https_port}"

    @property
    def plain_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def environment(self) -> dict[str, str]:
        proxy = f"http://127.0.0.1:{self.http_port}"
        return {"SSL_CERT_FILE": self.authority, "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}

    def asked(self, path: str) -> list[Asked]:
        """The requests for a path, with whatever query."""
        with self.lock:
            return [one for one in self.requests if one.path.partition("?")[0] == path]

    def find(self, host: str, path: str) -> Page | None:
        name = host.partition(":")[0]
        for key in (f"{host}{path}", f"{name}{path}", path):
            if key in self.pages:
                return self.pages[key]
        return None

    def wait_for(self, path: str, count: int = 1) -> None:
        until(lambda: len(self.asked(path)) >= count, f"{path} was not asked for")

    def close(self) -> None:
        for server in (self._tls, self._plain):
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, site: Site, scheme: str) -> None:
        self.site, self.scheme = site, scheme
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(PATIENCE)
            self.request.do_handshake()
            self.request.settimeout(None)
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path
        if path.startswith("http://"):
            path = "/" + path.split("/", 3)[3]
        site = self.server.site
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.server.scheme, headers.get("host", ""), path, headers)
        with site.lock:
            site.requests.append(asked)
        page = site.find(asked.host, path) or Page(b"nothing here", 404)
        if page.statuses:
            page = Page(b"", page.statuses.pop(0))
        elif page.needs and asked.header("Authorization") != page.needs:
            page = Page(b"who are you?", 401, headers={"WWW-Authenticate": page.challenge})
        self._answer(asked, page)

    do_HEAD = do_POST = do_GET

    def _answer(self, asked: Asked, page: Page) -> None:
        body, status, headers = page.body, page.status, dict(page.headers)
        if page.etag:
            headers["ETag"] = page.etag
        if page.last_modified:
            headers["Last-Modified"] = page.last_modified
        if page.etag and asked.header("If-None-Match") == page.etag:
            body, status = b"", 304
        wanted = asked.header("Range")
        current = asked.header("If-Range") in ("", page.etag, page.last_modified)
        if status == 200 and wanted and page.ranges and current:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(body):
                headers["Content-Range"], status, body = f"bytes */{len(body)}", 416, b""
            else:
                span = f"bytes {start}-{len(body) - 1}/{len(body)}"
                headers["Content-Range"], status, body = page.wrong_range or span, 206, body[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if page.length is None else page.length))
        self.end_headers()
        self.wfile.flush()
        if self.command != "HEAD":
            self._send(asked, page, body)

    def _send(self, asked: Asked, page: Page, body: bytes) -> None:
        end = page.cuts.pop(0) if page.cuts else len(body)
        if page.hold is not None:
            half = min(end, len(body)) // 2
            self._write(asked, body[:half])
            page.hold.wait(PATIENCE)
            self._write(asked, body[half:end])
        elif page.rate:
            step = max(page.rate // 20, 1)
            for at in range(0, min(end, len(body)), step):
                self._write(asked, body[at : min(at + step, end)])
                time.sleep(0.05)
        else:
            self._write(asked, body[:end])
        if end < len(body):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _write(self, asked: Asked, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()
        asked.sent += len(data)

    def do_CONNECT(self) -> None:
        """Every name leads to our own servers: port 80 to http, all others to https."""
        site = self.server.site
        with site.lock:
            site.connects.append(self.path)
        port = site.http_port if self.path.endswith(":80") else site.https_port
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            _relay(self.connection, upstream)
        self.close_connection = True


def _relay(one: socket.socket, other: socket.socket) -> None:
    peers = {one: other, other: one}
    while True:
        ready, _, _ = select.select(list(peers), [], [], PATIENCE)
        if not ready:
            return
        for source in ready:
            try:
                data = source.recv(1 << 18)
                if not data:
                    return
                peers[source].sendall(data)
            except OSError:
                return


def make_certificates(directory: str, names: tuple[str, ...] = HOSTS) -> tuple[str, str, str]:
    """An authority and a certificate for ``names`` and 127.0.0.1: paths of authority, certificate, key.

    Valid since yesterday, whatever becomes of the clock while the tests run.
    """
    os.makedirs(directory, exist_ok=True)
    issuer, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    alternatives = x509.SubjectAlternativeName([address, *map(x509.DNSName, names)])
    certificates = {
        "ca.pem": _certificate("tests", issuer, issuer, x509.BasicConstraints(ca=True, path_length=None)),
        "server.pem": _certificate("server", server, issuer, alternatives),
    }
    pem = serialization.Encoding.PEM
    files = {name: made.public_bytes(pem) for name, made in certificates.items()}
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    files["server.key"] = server.private_bytes(pem, traditional, serialization.NoEncryption())
    for name, data in files.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(data)
    authority, certificate, key = (os.path.join(directory, name) for name in files)
    return authority, certificate, key


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(
        named("tests"), named(name), key.public_key(), x509.random_serial_number()
    )
    builder = builder.not_valid_before(now - day).not_valid_after(now + day)
    # By the identifiers the right one is found among authorities of the same name.
    extensions = (
        extension,
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),
    )
    for entry in extensions:
        builder = builder.add_extension(entry, critical=False)
    return builder.sign(issuer, hashes.SHA256())
