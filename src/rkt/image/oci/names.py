"""What an image in a registry is called: ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``.

The grammar of Docker's references.  Without a registry Docker Hub is meant, without a slash its
``library/``; the first component is a registry if it has a ``.`` or ``:`` or is ``localhost``.  The tag is
``latest`` unless there is a tag or a digest; with a digest the tag says nothing.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.store import digest as digests

DOCKER_HUB = "registry-1.docker.io"
_HUB_NAMES = ("docker.io", "index.docker.io", DOCKER_HUB)
DEFAULT_TAG = "latest"

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_LETTERS = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG = _LETTERS | frozenset("_.-")
_HOST = _LETTERS | frozenset(".-")
_LONGEST_TAG = 128
_LONGEST_NAME = 255


class ContainerName:
    """``registry`` is ``host[:port]``; either ``tag`` or ``digest`` is "" (both for a whole repository)."""

    __slots__ = ("digest", "registry", "repository", "tag", "text")

    def __init__(
        self, registry: str, repository: str, *, tag: str = "", digest: str = "", text: str = ""
    ) -> None:
        self.registry = registry
        self.repository = repository
        self.tag = tag
        self.digest = digest
        self.text = text or str(self)

    @property
    def name(self) -> str:
        """``REGISTRY/REPOSITORY``."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    def __repr__(self) -> str:
        return f"ContainerName({str(self)!r})"


def parse(text: str) -> ContainerName:
    """Read a reference; raises RktError ``invalid docker reference "..."`` with the reason."""
    try:
        return _parse(text)
    except RktError as error:
        raise RktError(f'invalid docker reference "{text[:400]}"') from error


def trust_name(prefix: str) -> str:
    """The image name that keys for a registry, or a part of one, are kept under: ``HOST_PORT/...``."""
    from rkt.appc import identifiers

    registry, slash, rest = prefix.partition("/")
    registry = DOCKER_HUB if registry in _HUB_NAMES else registry
    return identifiers.sanitize_identifier(f"{registry}{slash}{rest}")


def is_tag(text: str) -> bool:
    """Whether a word can be a tag."""
    return 0 < len(text) <= _LONGEST_TAG and not set(text) - _TAG and text[0] not in ".-"


def _parse(text: str) -> ContainerName:
    rest, at, digest = text.partition("@")
    if at:
        digests.check(digest)
    # A colon behind the last slash begins the tag, one before it a port.
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    tag = ""
    if colon >= 0:
        rest, tag = rest[:colon], rest[colon + 1 :]
        if not is_tag(tag):
            raise RktError(f'"{tag[:200]}" is no tag')
    registry, repository = _split(rest)
    if digest:
        tag = ""
    elif not tag:
        tag = DEFAULT_TAG
    return ContainerName(registry, repository, tag=tag, digest=digest, text=text)


def _split(name: str) -> tuple[str, str]:
    first, slash, path = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry = first.lower()
        _check_registry(registry)
    else:
        registry, path = DOCKER_HUB, name
    if registry in _HUB_NAMES:
        registry = DOCKER_HUB
        if "/" not in path:
            path = f"library/{path}"
    if len(name) > _LONGEST_NAME:
        raise RktError(f"the name is longer than {_LONGEST_NAME} letters")
    for component in path.split("/"):
        _check_component(component)
    return registry, path


def _check_registry(registry: str) -> None:
    host, colon, port = registry.partition(":")
    if registry.startswith("["):
        host, _, rest = registry[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not host or set(host) - frozenset("0123456789abcdef:.") or (rest and colon != ":"):
            raise RktError(f'"{registry}" is no host')
    elif not host or set(host) - _HOST or host[0] in ".-" or host[-1] in ".-" or ".." in host:
        raise RktError(f'"{registry}" is no host')
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise RktError(f'"{registry}" has no valid port')


def _check_component(component: str) -> None:
    """Lower case letters and digits, separated by ``.``, ``_``, ``__`` or any number of ``-``."""
    run = ""
    previous = ""
    for letter in component:
        if letter in _LOWER:
            run = ""
        elif letter in "._-" and previous:
            run += letter
            if run not in (".", "_", "__") and run.strip("-"):
                raise RktError(f'"{component}" is no part of a repository\'s name')
        else:
            raise RktError(f'"{component}" is no part of a repository\'s name')
        previous = letter
    if run or not component:
        raise RktError(f'"{component}" is no part of a repository\'s name')
