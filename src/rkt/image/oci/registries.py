"""How registries are reached: ``registries.conf`` and ``certs.d`` of the containers tools.

Sources: containers-registries.conf(5) version 2, containers-certs.d(5).  The longest ``prefix`` that an
image's name begins with decides; it may move the image to another ``location``, name mirrors that are asked
first, block it, or say that a registry is ``insecure`` (http, or a certificate nobody vouches for).  Names
are always complete here, so search lists and aliases are not looked at; files of version 1 are refused.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.image.oci.names import DOCKER_HUB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rkt.image.connections import Tls
    from rkt.image.oci.names import ContainerName

_HUB = "docker.io"
_LIMIT = 1 << 20
_PULLS = ("all", "digest-only", "tag-only")


class Endpoint:
    """One place where an image may be: ``host`` is ``name[:port]``."""

    __slots__ = ("host", "insecure", "repository")

    def __init__(self, host: str, repository: str, *, insecure: bool = False) -> None:
        self.host = host
        self.repository = repository
        self.insecure = insecure

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


class Registries:
    """The settings of all registries; ``entries`` as in the files, by prefix."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, dict[str, Any]]) -> None:
        self._entries = entries

    def endpoints(self, name: ContainerName) -> list[Endpoint]:
        """Where to ask for an image, mirrors first.  Raises RktError for one that is blocked."""
        registry = _HUB if name.registry == DOCKER_HUB else name.registry
        full = f"{registry}/{name.repository}"
        found = self._match(full)
        if found is None:
            return [Endpoint(name.registry, name.repository)]
        prefix, entry = found
        if entry.get("blocked"):
            raise RktError(f'registry "{prefix}" is blocked by registries.conf')
        endpoints = []
        by_digest = bool(entry.get("mirror-by-digest-only"))
        for mirror in entry.get("mirror", []):
            pull = mirror.get("pull-from-mirror") or ("digest-only" if by_digest else "all")
            if pull not in _PULLS:
                raise RktError(f'registries.conf has the unknown word "{pull}" for pull-from-mirror')
            if pull == "all" or (pull == "digest-only") == bool(name.digest):
                endpoints.append(_endpoint(mirror, prefix, full))
        endpoints.append(_endpoint(entry, prefix, full))
        return endpoints

    def _match(self, full: str) -> tuple[str, dict[str, Any]] | None:
        best: tuple[str, dict[str, Any]] | None = None
        for prefix, entry in self._entries.items():
            if _begins(full, prefix) and (best is None or len(prefix) > len(best[0])):
                best = prefix, entry
        return best


def _begins(full: str, prefix: str) -> bool:
    if prefix.startswith("*."):
        host = full.partition("/")[0].partition(":")[0]
        return "/" not in prefix and host.endswith(prefix[1:])
    return full == prefix or (full.startswith(prefix) and full[len(prefix)] in "/")


def _endpoint(entry: dict[str, Any], prefix: str, full: str) -> Endpoint:
    location = entry.get("location") or ""
    if not isinstance(location, str):
        raise RktError("registries.conf has a location that is no string")
    # A wildcard stands for the host as it is.
    moved = location + full[len(prefix) :] if location and not prefix.startswith("*.") else full
    host, slash, repository = moved.partition("/")
    if not slash or not repository or not host:
        raise RktError(f'registries.conf moves "{full}" to "{moved}", which is no image')
    host = DOCKER_HUB if host == _HUB else host
    return Endpoint(host, repository, insecure=bool(entry.get("insecure")))


def load(environment: Mapping[str, str] | None = None) -> Registries:
    """The settings of this host and user.  Raises RktError that names the file."""
    values = os.environ if environment is None else environment
    entries: dict[str, dict[str, Any]] = {}
    for path in _files(values):
        for entry in _read(path):
            entries[entry["prefix"]] = entry
    return Registries(entries)


def _files(environment: Mapping[str, str]) -> Iterable[str]:
    named = environment.get("CONTAINERS_REGISTRIES_CONF", "")
    if named:
        return [named]
    home = os.path.join(environment.get("HOME", "/root"), ".config/containers")
    main = [os.path.join(base, "registries.conf") for base in (home, "/etc/containers")]
    found = [path for path in main if os.path.exists(path)][:1]
    for base in ("/etc/containers", home):
        directory = os.path.join(base, "registries.conf.d")
        if os.path.isdir(directory):
            names = sorted(name for name in os.listdir(directory) if name.endswith(".conf"))
            found += [os.path.join(directory, name) for name in names]
    return found


def _read(path: str) -> list[dict[str, Any]]:
    import tomllib

    try:
        with open(path, "rb") as file:
            value = tomllib.loads(file.read(_LIMIT).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RktError(f"{path} cannot be read") from RktError(str(error))
    if "registries" in value:
        raise RktError(f"{path} is of version 1", hint="see containers-registries.conf(5) for version 2")
    made = []
    entries = value.get("registry", [])
    if not isinstance(entries, list):
        raise RktError(f"{path} cannot be read: a registry is no table")
    for entry in entries:
        mirrors = entry.get("mirror", []) if isinstance(entry, dict) else None
        if not isinstance(mirrors, list) or not all(isinstance(mirror, dict) for mirror in mirrors):
            raise RktError(f"{path} cannot be read: a registry is no table")
        prefix = entry.get("prefix") or entry.get("location")
        if not isinstance(prefix, str) or not prefix:
            raise RktError(f"{path} cannot be read: a registry has neither prefix nor location")
        made.append({**entry, "prefix": prefix.rstrip("/")})
    return made


def certificates(host: str, environment: Mapping[str, str] | None = None) -> Tls | None:
    """The certificates kept for ``host[:port]``; None when there are none.

    ``*.crt`` are authorities, ``X.cert`` with ``X.key`` is what this host shows.
    """
    from rkt.image.connections import Tls

    values = os.environ if environment is None else environment
    home = os.path.join(values.get("HOME", "/root"), ".config/containers/certs.d")
    for base in (home, "/etc/containers/certs.d", "/etc/docker/certs.d"):
        directory = os.path.join(base, host)
        if "/" in host or not os.path.isdir(directory):
            continue
        names = sorted(os.listdir(directory))
        authorities = tuple(os.path.join(directory, name) for name in names if name.endswith(".crt"))
        certificate = next((name for name in names if name.endswith(".cert")), "")
        key = certificate.removesuffix(".cert") + ".key"
        if certificate and key not in names:
            raise RktError(f"{directory}/{certificate} has no {key}")
        if authorities or certificate:
            return Tls(
                authorities=authorities,
                certificate=os.path.join(directory, certificate) if certificate else "",
                key=os.path.join(directory, key) if certificate else "",
            )
    return None
