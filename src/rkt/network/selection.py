"""The value of ``--net``: ``N[:ARGS][,N[:ARGS]...]``, where ARGS are handed to CNI as they are.

A selection is a list of ``(name, args)`` in the order given.  Three names are special: ``host`` (no
namespace of its own), ``none`` (loopback only) and ``all`` (every configured network).  They may be
combined with others: ``host`` wins over everything, ``none`` over all but ``host``, as in rkt 1.30.
"""

from __future__ import annotations

from rkt.errors import RktError

DEFAULT = "default"
HOST = "host"
NONE = "none"
ALL = "all"


def parse_networks(text: str) -> list[tuple[str, str]]:
    """Decode the value of ``--net``; of a repeated flag, pass the values joined by commas.

    Raises RktError with rkt's texts for an empty, repeated or malformed element.
    """
    networks: list[tuple[str, str]] = []
    seen = set()
    for element in text.split(","):
        name, colon, arguments = element.partition(":")
        if not name:
            raise RktError("netname must not be empty")
        if "\0" in element or "\n" in element:
            raise RktError(f"network {_quote(name)} provided with invalid arguments: control characters")
        if name in seen:
            raise RktError(f'found duplicate netname "{name}"')
        if colon and name in (ALL, HOST):
            raise RktError(f'arguments are not supported by special netname "{name}"')
        if name != NONE and not _are_arguments(arguments):
            shown = " ".join(arguments.split(":"))
            raise RktError(f'network "{name}" provided with invalid arguments: [{shown}]')
        seen.add(name)
        networks.append((name, arguments))
    return networks


def _are_arguments(text: str) -> bool:
    """Whether it is ``key=value;key=value``, the only form that CNI takes; nothing at all is as good.

    rkt 1.30 refused every further colon, and so all IPv6 addresses: those in a value are accepted.
    """
    pairs = [pair.partition("=") for pair in text.split(";")] if text else []
    return all(key and equals and ":" not in key and "=" not in value for key, equals, value in pairs)


def format_networks(networks: list[tuple[str, str]]) -> str:
    """The text that ``parse_networks`` decodes to ``networks``; none at all mean ``default``."""
    return ",".join(f"{name}:{args}" if args else name for name, args in networks) or DEFAULT


def kind(networks: list[tuple[str, str]]) -> str:
    """``host``, ``none`` or ``contained`` (a namespace of its own with at least one network)."""
    names = {name for name, _ in networks}
    if HOST in names:
        return HOST
    return NONE if NONE in names else "contained"


def _quote(name: str) -> str:
    return '"' + name.replace("\0", "\\x00").replace("\n", "\\n") + '"'
