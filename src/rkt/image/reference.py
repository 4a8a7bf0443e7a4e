"""The word that says which image: an ID, a name, a file, a URL, a registry's name (facts of rkt 1.30).

In this order:

1. ``sha512-HEX``: an image ID, full or abbreviated, for commands that take images from the store;
2. without a scheme: an absolute path or an existing file; with a ``:`` a name; with ``./`` in it, or
   ending in ``.aci``, a path; else a name;
3. ``file://``, ``http://``, ``https://`` with a path ending in ``.aci``: an image file;
4. ``docker:REF`` or ``docker://REF``;
5. ``oci:PATH[:NAME]``: an OCI layout (directory or archive), ``docker-archive:FILE[:NAME]``: what
   ``docker save`` writes; both also with ``@DIGEST`` instead of the name;
6. ``cimd:TYPE:v=0:DATA`` with the types ``appc``, ``aci-archive`` and ``docker``;
7. any other scheme: a name with a version (``my-app:v1``).
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.store.store import is_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.discovery import ImageName

EXTENSION = ".aci"

ID = "id"
NAME = "name"
FILE = "file"
HTTP = "http"
DOCKER = "docker"
OCI = "oci"
DOCKER_ARCHIVE = "docker-archive"

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SCHEME_LETTERS = _LETTERS | frozenset("0123456789+-.")


class Reference:
    """A parsed image word.

    ``kind`` is one of ID, NAME, FILE, HTTP, DOCKER, OCI, DOCKER_ARCHIVE; ``text`` the word as typed;
    ``location`` the ID, the absolute path, the URL, the registry's name or what follows the scheme; ``name``
    what a NAME parses to.
    """

    __slots__ = ("kind", "location", "name", "text")

    def __init__(self, kind: str, text: str, *, location: str = "", name: ImageName | None = None) -> None:
        self.kind = kind
        self.text = text
        self.location = location
        self.name = name

    def __repr__(self) -> str:
        return f"Reference({self.kind!r}, {self.text!r}, {self.location!r})"


def parse(text: str, *, ids: bool = True) -> Reference:
    """Parse an image word; without ``ids`` an image ID is read as a name, as ``rkt fetch`` does.

    Raises RktError: ``invalid image string "..."`` or ``invalid appc image string "..."``.
    """
    if ids and is_id(text):
        return Reference(ID, text, location=text)
    scheme = _scheme(text)
    if not scheme:
        return _file(text, os.path.abspath(text)) if _is_path(text) else _name(text, text)
    if scheme == "file":
        return _file(text, _file_url_path(text))
    if scheme in ("http", "https"):
        if not _url_path(text).endswith(EXTENSION):
            raise RktError(f'invalid image string "{text}"')
        return Reference(HTTP, text, location=text)
    if scheme == "docker":
        return Reference(DOCKER, text, location=text.partition(":")[2].removeprefix("//"))
    if scheme in (OCI, DOCKER_ARCHIVE) and text.partition(":")[2].strip(":"):
        return Reference(scheme, text, location=text.partition(":")[2])
    if scheme == "cimd":
        return _cimd(text)
    return _name(text, text)


def signature_location(location: str) -> str:
    """Where the signature of an image file is: ``x.aci`` has ``x.aci.asc`` (path or URL without a query)."""
    return location.removesuffix(EXTENSION) + EXTENSION + ".asc"


def _scheme(text: str) -> str:
    """The scheme of a URL (RFC 3986, section 3.1), lower case; "" when there is none."""
    head, colon, _ = text.partition(":")
    if not colon or head[:1] not in _LETTERS or set(head) - _SCHEME_LETTERS:
        return ""
    return head.lower()


def _is_path(text: str) -> bool:
    if os.path.isabs(text) or os.path.isfile(text):
        return True
    return ":" not in text and ("./" in text or os.path.splitext(text)[1] == EXTENSION)


def _file(text: str, path: str) -> Reference:
    if not path.endswith(EXTENSION):
        raise RktError(f'invalid image string "{text}"')
    return Reference(FILE, text, location=path)


def _name(text: str, name: str) -> Reference:
    from rkt.appc import discovery
    from rkt.appc.errors import AppcError

    try:
        parsed = discovery.ImageName.parse(name)
    except AppcError as error:
        raise RktError(f'invalid appc image string "{text}"') from error
    return Reference(NAME, text, location=name, name=parsed)


def _file_url_path(text: str) -> str:
    from urllib.parse import unquote

    rest = text.partition(":")[2]
    if not rest.startswith("//"):
        raise RktError(f'invalid image string "{text}"')
    host, slash, path = rest[2:].partition("/")
    if host not in ("", "localhost") or not slash:
        raise RktError(f'invalid image string "{text}": a file has no host')
    return os.path.normpath("/" + unquote(path.partition("?")[0].partition("#")[0]))


def _url_path(text: str) -> str:
    rest = text.partition("://")[2].partition("#")[0].partition("?")[0]
    return rest.partition("/")[2]


def _cimd(text: str) -> Reference:
    """Container Image Distribution: ``cimd:TYPE:v=VERSION:DATA`` (rkt's dist-points)."""
    from urllib.parse import unquote_plus

    words = text.split(":", 3)
    if len(words) != 4 or not words[3]:
        raise RktError(f'malformed distribution string "{text}"')
    kind, version, data = words[1:]
    if version != "v=0":
        raise RktError(f'unsupported version of the distribution string "{text}"')
    if kind == "aci-archive":
        reference = parse(unquote_plus(data), ids=False)
        if reference.kind not in (FILE, HTTP):
            raise RktError(f'invalid image string "{text}"')
        return Reference(reference.kind, text, location=reference.location)
    if kind == "appc":
        name, _, query = data.partition("?")
        labels = "".join(f",{unquote_plus(pair)}" for pair in query.split("&") if pair)
        return _name(text, unquote_plus(name) + labels)
    if kind == "docker":
        return Reference(DOCKER, text, location=data)
    raise RktError(f'unknown type "{kind}" of the distribution string "{text}"')
