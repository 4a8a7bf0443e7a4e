"""OpenPGP signatures of container images that are kept beside registries (containers-registries.d(5)).

``/etc/containers/registries.d/*.yaml``, or ``~/.config/containers/registries.d`` where that exists::

    default-docker:
        lookaside: https://signatures.example.com
    docker:
        registry.example.com/team:
            lookaside: file:///var/lib/containers/sigstore

(``sigstore`` is the older word for ``lookaside``.)  Signatures of a manifest are
``BASE/REPOSITORY@sha256=HEX/signature-1`` and so on.  Of YAML only what these files need is read: mappings
with indentation, plain and quoted strings, comments.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.image.http import HttpError
from rkt.image.oci.names import DOCKER_HUB
from rkt.trust import simple_signing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.image.http import Client
    from rkt.image.oci.names import ContainerName

_MOST = 32
_LIMIT = 1 << 20
_WORDS = ("lookaside", "sigstore")


def signatures(
    client: Client, name: ContainerName, digest: str, environment: Mapping[str, str] | None = None
) -> list[bytes]:
    """The signatures kept for a manifest; none where no place is configured."""
    from urllib.parse import quote

    base = find_base(name, os.environ if environment is None else environment)
    if not base:
        return []
    algorithm, _, digits = digest.partition(":")
    folder = f"{base.rstrip('/')}/{quote(name.repository)}@{algorithm}={digits}"
    found = []
    for number in range(1, _MOST + 1):
        data = _read(client, f"{folder}/signature-{number}")
        if data is None:
            break
        found.append(data)
    return found


def find_base(name: ContainerName, environment: Mapping[str, str]) -> str:
    """The URL configured for the longest part of an image's name; "" for none."""
    places: dict[str, str] = {}
    default = ""
    for path in _files(environment):
        with open(path, encoding="utf-8") as file:
            value = parse_yaml(file.read(_LIMIT), path)
        default = _base(value.get("default-docker")) or default
        docker = value.get("docker")
        for key, entry in (docker if isinstance(docker, dict) else {}).items():
            if _base(entry):
                places[key] = _base(entry)
    registry = "docker.io" if name.registry == DOCKER_HUB else name.registry
    full = f"{registry}/{name.repository}"
    for key in (f"{full}:{name.tag}", full, *_parents(full)):
        if key in places:
            return places[key]
    return default


def _parents(full: str) -> list[str]:
    parts = full.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _base(entry: object) -> str:
    if not isinstance(entry, dict):
        return ""
    return next((str(entry[word]) for word in _WORDS if isinstance(entry.get(word), str)), "")


def _files(environment: Mapping[str, str]) -> list[str]:
    home = os.path.join(environment.get("HOME", "/root"), ".config/containers/registries.d")
    directory = home if os.path.isdir(home) else "/etc/containers/registries.d"
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith(".yaml")]


def _read(client: Client, url: str) -> bytes | None:
    """One signature; None when there is none of that number."""
    if url.startswith("file://"):
        from urllib.parse import unquote

        from rkt.image import source

        path = unquote(url.removeprefix("file://"))
        try:
            with open(source.open_file(path), "rb") as file:
                return file.read(simple_signing.MAX_MESSAGE + 1)
        except FileNotFoundError:
            return None
    document = client.get(url, limit=simple_signing.MAX_MESSAGE)
    if document.status == 404:
        return None
    if document.status != 200:
        raise HttpError(f"bad HTTP status code: {document.status}", status=document.status)
    return document.body


def parse_yaml(text: str, path: str) -> dict[str, object]:
    """Mappings of strings and mappings, by indentation.  Raises RktError that names the line."""
    top: dict[str, object] = {}
    stack: list[tuple[int, dict[str, object]]] = [(-1, top)]
    pending: tuple[int, dict[str, object]] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or stripped in ("---", "{}"):
            continue
        indent = len(line) - len(line.lstrip(" "))
        key, value = _pair(stripped)
        if "\t" in line[: indent + 1] or not key:
            raise RktError(f"{path}, line {number}, is not understood")
        if pending is not None and indent > pending[0]:
            stack.append((indent, pending[1]))
        while stack[-1][0] > indent:
            stack.pop()
        if stack[-1][0] == -1:
            stack.append((indent, top))
        if stack[-1][0] != indent or key in stack[-1][1]:
            raise RktError(f"{path}, line {number}, is not understood")
        pending = None
        if value:
            stack[-1][1][key] = value
        else:
            inner: dict[str, object] = {}
            stack[-1][1][key] = inner
            pending = indent, inner
    return top


def _pair(line: str) -> tuple[str, str]:
    """``KEY: VALUE`` with either of them quoted or not; an empty key for anything else."""
    if line[0] in "\"'":
        end = line.find(line[0], 1)
        key, rest = line[1:end], line[end + 1 :]
        if end < 0 or not rest.startswith(":"):
            return "", ""
        rest = rest[1:]
    else:
        bare = line.partition(" #")[0].rstrip()
        key, separator, rest = bare.partition(": ")
        if not separator:
            if not bare.endswith(":"):
                return "", ""
            key, rest = bare[:-1], ""
    value = rest.partition(" #")[0].strip()
    if value[:1] in ("[", "{", "|", ">", "&", "*", "!", "- "):
        return "", ""
    if len(value) >= 2 and value[0] in "\"'" and value[-1] == value[0]:
        value = value[1:-1]
    return key.strip(), value
