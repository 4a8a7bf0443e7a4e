"""Tokens and passwords for a registry ("Token Authentication" of the registry API; RFC 6750, RFC 7617).

A registry that answers 401 says how it wants to be asked: with a password, or with a token from a server it
names.  Credentials leave over https only, to the registry itself or to that server; the server may not be at
a link-local address.  A token is asked for reading one repository, and kept for it.
"""

from __future__ import annotations

import threading
from urllib.parse import urlencode, urlsplit

from rkt.errors import RktError
from rkt.image.oci import credentials, documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.config.kinds import Basic
    from rkt.image.http import Client, Document
    from rkt.image.oci.credentials import Credentials
    from rkt.image.oci.registries import Endpoint

_LIMIT = 1 << 18
_CLIENT = "rkt"


class Authenticator:
    """What a client shows to registries; safe between threads."""

    __slots__ = ("_client", "_configured", "_headers", "_lock")

    def __init__(self, client: Client, configured: Mapping[str, Basic]) -> None:
        self._client = client
        self._configured = configured
        self._lock = threading.Lock()
        self._headers: dict[str, dict[str, str]] = {}

    def headers(self, base: str, endpoint: Endpoint) -> dict[str, str]:
        """What a request for a repository carries, as far as that is known by now."""
        return self._headers.get(f"{base}/{endpoint.repository}", {})

    def answer(
        self, challenge: str, base: str, endpoint: Endpoint, *, stale: dict[str, str]
    ) -> dict[str, str]:
        """What a request has to carry after a 401; ``stale`` is what it had.  Raises RktError."""
        key = f"{base}/{endpoint.repository}"
        with self._lock:
            known = self._headers.get(key, {})
            if known and known != stale:
                # Another thread has just asked.
                return known
            found = credentials.find(endpoint.host, endpoint.repository, self._configured)
            kind, parameters = parse_challenge(challenge)
            if kind == "basic":
                header = self._password(found, base, endpoint)
            elif kind == "bearer":
                header = f"Bearer {self._token(found, parameters, base, endpoint)}"
            else:
                raise RktError(
                    f'registry {endpoint.host} wants to be asked in the unknown way "{kind[:100]}"'
                )
            made = self._headers[key] = {"Authorization": header}
            return made

    def _password(self, found: Credentials | None, base: str, endpoint: Endpoint) -> str:
        if found is None or not found.user:
            raise RktError(
                f"registry {endpoint.host} wants a password",
                hint="credentials belong into the auth.d directory of the configuration, or are kept by: "
                f"podman login {endpoint.host}",
            )
        if not base.startswith("https://"):
            raise RktError(f"refusing to send a password to registry {endpoint.host} over http")
        return found.basic()

    def _token(
        self, found: Credentials | None, parameters: dict[str, str], base: str, endpoint: Endpoint
    ) -> str:
        realm = parameters.get("realm", "")
        parts = urlsplit(realm)
        plain = not base.startswith("https://")
        if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not plain):
            raise RktError(f"registry {endpoint.host} does not say where to get a token")
        if parts.scheme == "http" and found is not None:
            raise RktError(f"refusing to send a password for registry {endpoint.host} over http")
        scope = f"repository:{endpoint.repository}:pull"
        fields = {"service": parameters.get("service", ""), "scope": scope}
        fields = {name: value for name, value in fields.items() if value}
        if found is not None and found.identity_token:
            document = self._exchange(realm, fields, found.identity_token)
        else:
            headers = {"Authorization": found.basic()} if found is not None else {}
            url = f"{realm}{'&' if parts.query else '?'}{urlencode(fields)}"
            document = self._client.get(url, limit=_LIMIT, headers=headers, plain=plain, guarded=True)
        if document.status != 200:
            raise RktError(
                f"registry {endpoint.host} gives no token for {endpoint.repository} ({document.status})"
            )
        value = documents.load(document.body, f"token of {endpoint.host}")
        token = documents.text(value, "token") or documents.text(value, "access_token")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise RktError(f"registry {endpoint.host} gives no valid token")
        return token

    def _exchange(self, realm: str, fields: dict[str, str], token: str) -> Document:
        """A token for an identity token (Docker's OAuth2 exchange)."""
        from rkt.image.http import Document

        form = {**fields, "grant_type": "refresh_token", "refresh_token": token, "client_id": _CLIENT}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(form).encode()
        with self._client.request("POST", realm, headers=headers, body=body, guarded=True) as response:
            return Document(response.url, response.status, response.headers, response.read_all(_LIMIT))


def parse_challenge(text: str) -> tuple[str, dict[str, str]]:
    """The kind, in lower case, and the parameters of ``WWW-Authenticate`` (RFC 9110, section 11.6.1)."""
    kind, _, rest = text.strip().partition(" ")
    parameters: dict[str, str] = {}
    at = 0
    while at < len(rest):
        equals = rest.find("=", at)
        if equals < 0:
            break
        name = rest[at:equals].strip(" ,").lower()
        at = equals + 1
        if rest[at : at + 1] == '"':
            value, at = _quoted(rest, at + 1)
        else:
            end = rest.find(",", at)
            end = len(rest) if end < 0 else end
            value, at = rest[at:end].strip(), end
        parameters.setdefault(name, value)
    return kind.lower(), parameters


def _quoted(text: str, at: int) -> tuple[str, int]:
    """A quoted string from behind its first quote; its value and where it ends."""
    letters = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            at += 1
        letters.append(text[at : at + 1])
        at += 1
    return "".join(letters), at + 1
