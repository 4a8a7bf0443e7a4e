"""Connections to servers: pools that are reused, TLS, proxies, and the addresses nobody may be sent to.

The only user of urllib3's pools; ``rkt.image.http`` decides what is asked and where.  The certificates
of the system are trusted, or those ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name, as with every program on
OpenSSL.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import threading

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from rkt.image import proxies
from rkt.image.http import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

CONNECT_SECONDS = 20.0
READ_SECONDS = 60.0
"""A server that sends nothing for so long is taken for dead."""
_CONNECTIONS_PER_HOST = 8


class Tls:
    """How the server of one host is checked.

    ``verify`` False takes any certificate.  ``authorities`` are files of certificates trusted beside the
    system's, ``certificate`` and ``key`` the files of the client's own, "" for none.
    """

    __slots__ = ("authorities", "certificate", "key", "verify")

    def __init__(
        self, *, verify: bool = True, authorities: tuple[str, ...] = (), certificate: str = "", key: str = ""
    ) -> None:
        self.verify = verify
        self.authorities = authorities
        self.certificate = certificate
        self.key = key

    def identity(self) -> tuple[object, ...]:
        """What two equal settings have in common, for looking them up."""
        return (self.verify, self.authorities, self.certificate, self.key)


class Pools:
    """All connections of one client, kept open and used again; safe between threads."""

    __slots__ = ("_contexts", "_lock", "_managers")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._managers: dict[tuple[object, ...], urllib3.PoolManager] = {}
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}

    def manager(self, scheme: str, host: str, port: int, *, tls: Tls, guarded: bool) -> urllib3.PoolManager:
        """The pools for a host.

        ``guarded``: somebody else than the user chose the host, so link-local addresses, where clouds keep
        the secrets of a machine, are refused.  Raises HttpError for a proxy that cannot be used.
        """
        if guarded and is_link_local(host):
            raise link_local(host)
        proxy = proxies.proxy_for(scheme, host, port, os.environ)
        identity = (scheme == "https" and tls.identity(), proxy, guarded)
        with self._lock:
            if identity not in self._managers:
                context = self._context(tls) if scheme == "https" else None
                self._managers[identity] = _manager(proxy, context, guarded=guarded)
            return self._managers[identity]

    def close(self) -> None:
        for manager in self._managers.values():
            manager.clear()
        self._managers.clear()

    def _context(self, tls: Tls) -> ssl.SSLContext:
        identity = tls.identity()
        if identity not in self._contexts:
            self._contexts[identity] = _context(tls)
        return self._contexts[identity]


def is_link_local(host: str) -> bool:
    """Whether an IP address, as text, is link-local; a name is not."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local


def link_local(host: str) -> HttpError:
    return HttpError(f"refusing to be sent to the link-local address {host}")


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for file in tls.authorities:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            raise HttpError(f"certificates of {file} cannot be used") from error
    if tls.certificate:
        try:
            context.load_cert_chain(tls.certificate, tls.key or None)
        except (OSError, ssl.SSLError) as error:
            raise HttpError(f"client certificate {tls.certificate} cannot be used") from error
    return context


def _manager(proxy: str, context: ssl.SSLContext | None, *, guarded: bool) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    manager: urllib3.PoolManager
    if not proxy:
        manager = urllib3.PoolManager(maxsize=_CONNECTIONS_PER_HOST, timeout=timeout, ssl_context=context)
    else:
        try:
            parts = urllib3.util.parse_url(proxy)
        except urllib3.exceptions.HTTPError:
            raise HttpError("the proxy of the environment cannot be used: it is no URL") from None
        if parts.scheme not in ("http", "https") or not parts.host:
            raise HttpError(f"proxy {parts.scheme}://{parts.host} cannot be used: it is no http proxy")
        headers = urllib3.make_headers(proxy_basic_auth=parts.auth) if parts.auth else None
        manager = urllib3.ProxyManager(
            proxy,
            proxy_headers=headers,
            maxsize=_CONNECTIONS_PER_HOST,
            timeout=timeout,
            ssl_context=context,
        )
    if guarded and not proxy:
        manager.pool_classes_by_scheme = {"http": _GuardedPool, "https": _GuardedTlsPool}
    return manager


class _GuardedConnection(HTTPConnection):  # type: ignore[misc, unused-ignore]
    """Looks where a name has led to, before anything is sent there."""

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()
        peer = str(connected.getpeername()[0])
        if is_link_local(peer):
            connected.close()
            raise link_local(f"{peer} of {self.host}")
        return connected


class _GuardedTlsConnection(HTTPSConnection, _GuardedConnection):  # type: ignore[misc, unused-ignore]
    pass


class _GuardedPool(HTTPConnectionPool):  # type: ignore[misc, unused-ignore]
    ConnectionCls = _GuardedConnection


class _GuardedTlsPool(HTTPSConnectionPool):  # type: ignore[misc, unused-ignore]
    ConnectionCls = _GuardedTlsConnection
