"""The option kinds whose values are types of the appc specification."""

from __future__ import annotations

from rkt.appc.identifiers import check_identifier, check_name
from rkt.appc.port import ExposedPort, Port
from rkt.appc.volume import Mount, Volume
from rkt.cli.output import quote
from rkt.cli.values import settings
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.appc.isolators import Isolator
    from rkt.cli.options import Option


def volume(text: str, before: list[Volume] | None, option: Option) -> list[Volume]:
    """``NAME,kind=host,source=/P[,readOnly=B][,recursive=B]`` or ``NAME,kind=empty[,...]``."""
    try:
        return [*(before or []), Volume.from_flag(text)]
    except RktError as error:
        raise RktError(f"invalid value in --{option.name} flag {quote(text)}") from error


def mount(text: str, before: list[Mount] | None, option: Option) -> list[Mount]:
    """``volume=NAME,target=PATH``."""
    del option
    return [*(before or []), Mount.from_flag(text)]


def app_volume(text: str, before: list[Mount] | None, option: Option) -> list[Mount]:
    """``--mnt-volume``: a volume with ``target=PATH``, for one app."""
    words = text.split(",")
    targets = [word.partition("=")[2] for word in words if word.startswith("target=")]
    if not targets:
        raise RktError("missing target= parameter")
    if len(targets) > 1:
        raise RktError('parameter "target" is given more than once')
    rest = ",".join(word for word in words if not word.startswith("target="))
    try:
        value = Volume.from_flag(rest)
    except RktError as error:
        raise RktError(f"invalid value in --{option.name} flag {quote(text)}") from error
    return [*(before or []), Mount(value.name, targets[0], app_volume=value)]


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise RktError(f"{quote(text)} is not a valid port number")
    return int(text)


def address(text: str) -> str:
    from rkt.appc.address import parse

    try:
        return parse(text)
    except RktError as error:
        raise RktError(f"{quote(text)} is not a valid IP") from error


def port(text: str, before: list[ExposedPort] | None, option: Option) -> list[ExposedPort]:
    """``NAME:[HOSTIP:]HOSTPORT``; an IPv6 address has colons itself, so the port is what follows the last
    one.
    """
    del option
    name, colon, rest = text.partition(":")
    if not colon:
        raise RktError(f"{quote(text)} is not in name:[ip:]port format")
    try:
        check_name(name)
    except RktError as error:
        raise RktError(f"{quote(name)} is not a valid port name") from error
    host, colon, number = rest.rpartition(":")
    exposed = ExposedPort(name, port_number(number), host_ip=address(host.strip("[]")) if colon else None)
    return [*(before or []), exposed]


def sandbox_port(text: str, before: list[ExposedPort] | None, option: Option) -> list[ExposedPort]:
    """``NAME:PROTOCOL:PODPORT:HOSTIP:HOSTPORT``."""
    words = text.split(":", 3)
    if len(words) < 4 or ":" not in words[3]:
        raise RktError(f"--{option.name} invalid format")
    name, protocol, pod_port, rest = words
    host, _, number = rest.rpartition(":")
    check_name(name)
    if protocol not in {"tcp", "udp"}:
        raise RktError(f"invalid protocol {quote(protocol)}")
    inside = Port(name, protocol, port_number(pod_port))
    exposed = ExposedPort(name, port_number(number), host_ip=address(host.strip("[]")), pod_port=inside)
    return [*(before or []), exposed]


def name(text: str, before: str | None, option: Option) -> str:
    """The name of an app."""
    del before, option
    return check_name(text)


def annotation_pairs(text: str, before: dict[str, str] | None, option: Option) -> dict[str, str]:
    """``NAME=VALUE`` whose names are identifiers of the specification."""
    check_identifier(text.partition("=")[0])
    return settings(text, before, option)


def isolator(text: str, before: Isolator | None, option: Option) -> Isolator:
    """A limit of an app; the last occurrence of the flag counts."""
    from rkt.appc import isolators

    del before
    if option.kind == "caps-retain":
        return isolators.capabilities_from_flag(text, retain=True)
    if option.kind == "caps-remove":
        return isolators.capabilities_from_flag(text, retain=False)
    makers = {
        "cpu": isolators.cpu_from_flag,
        "cpu-shares": isolators.cpu_shares_from_flag,
        "memory": isolators.memory_from_flag,
        "oom-score-adj": isolators.oom_score_adj_from_flag,
        "seccomp": isolators.seccomp_from_flag,
    }
    made = makers[option.kind](text)
    if option.kind == "memory":
        check_memory(made)
    return made


def check_memory(made: Isolator) -> None:
    """Less than a page is no limit but a slip: ``16m`` is 16 thousandths of a byte, ``16M`` was meant."""
    limit = made.value.limit.value()
    if limit < 4096:
        raise RktError(f"memory limit of {limit} bytes too low. Try a reasonable value, such as --memory=16M")


CONVERTERS: dict[str, Callable[[str, Any, Option], Any]] = {
    "volume": volume,
    "mount": mount,
    "app-volume": app_volume,
    "port": port,
    "sandbox-port": sandbox_port,
    "name": name,
    "annotations": annotation_pairs,
    "caps-remove": isolator,
    "caps-retain": isolator,
    "cpu": isolator,
    "cpu-shares": isolator,
    "memory": isolator,
    "oom-score-adj": isolator,
    "seccomp": isolator,
}
