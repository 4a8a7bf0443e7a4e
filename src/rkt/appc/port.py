"""Ports an app listens on, and ports of the host that lead to them."""

from __future__ import annotations

from rkt.appc.decode import boolean, optional, record, string, under, unsigned
from rkt.appc.errors import AppcError
from rkt.appc.flags import parse_bool, parse_unsigned, split_flag
from rkt.appc.identifiers import check_name, decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.decode import Members

_LAST_PORT = 65535


class Port:
    """A port, or ``count`` ports from ``port`` on, that an app listens on."""

    __slots__ = ("count", "name", "port", "protocol", "socket_activated")

    def __init__(
        self,
        name: str = "",
        protocol: str = "",
        port: int = 0,
        *,
        count: int = 1,
        socket_activated: bool = False,
    ) -> None:
        self.name = name
        self.protocol = protocol
        self.port = port
        self.count = count
        self.socket_activated = socket_activated

    def __repr__(self) -> str:
        return f"Port({self.name!r}, {self.protocol!r}, {self.port}, count={self.count})"

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Port:
        port = record(cls(count=0), _MEMBERS, value, path, check=cls.check)
        if port.count == 0:
            port.count = 1
        return port

    @classmethod
    def from_flag(cls, text: str) -> Port:
        """``NAME,protocol=P,port=N[,count=N][,socketActivated=BOOL]``; the count stays 0 if not given."""
        port = cls(count=0)
        for key, value in split_flag(text).items():
            if key == "name":
                port.name = check_name(value)
            elif key == "protocol":
                port.protocol = value
            elif key == "port":
                port.port = parse_unsigned(value, 16)
            elif key == "count":
                port.count = parse_unsigned(value, 16)
            elif key == "socketActivated":
                port.socket_activated = parse_bool(value)
            else:
                raise AppcError(f'unknown port parameter "{key}"')
        port.check()
        return port

    def check(self) -> None:
        if not 1 <= self.port <= _LAST_PORT:
            raise AppcError("port must be in 1-65535 range", "port")
        if self.port + self.count > _LAST_PORT + 1:
            raise AppcError("end of port range must be in 1-65535 range", "count")

    def to_value(self) -> dict[str, Any]:
        self.check()
        return {
            "name": under("name", lambda: check_name(self.name)),
            "protocol": self.protocol,
            "port": self.port,
            "count": self.count,
            "socketActivated": self.socket_activated,
        }


_MEMBERS: Members = {
    "name": ("name", decode_name),
    "protocol": ("protocol", string),
    "port": ("port", unsigned),
    "count": ("count", unsigned),
    "socketActivated": ("socket_activated", boolean),
}


class ExposedPort:
    """A port of the host that leads to the app port called ``name`` (or to ``pod_port``).

    ``host_ip`` None means every address.  The reference does not check the range of ``host_port``.
    """

    __slots__ = ("host_ip", "host_port", "name", "pod_port")

    def __init__(
        self, name: str = "", host_port: int = 0, *, host_ip: str | None = None, pod_port: Port | None = None
    ) -> None:
        self.name = name
        self.host_port = host_port
        self.host_ip = host_ip
        self.pod_port = pod_port

    def __repr__(self) -> str:
        return f"ExposedPort({self.name!r}, {self.host_port}, host_ip={self.host_ip!r})"

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> ExposedPort:
        return record(cls(), _EXPOSED_MEMBERS, value, path)

    def to_value(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "name": under("name", lambda: check_name(self.name)),
            "hostPort": self.host_port,
        }
        if self.host_ip is not None:
            made["hostIP"] = self.host_ip
        if self.pod_port is not None:
            made["podPort"] = under("podPort", self.pod_port.to_value)
        return made


def _decode_address(value: Any) -> str | None:
    from rkt.appc.address import parse

    text = string(value)
    return parse(text) if text else None


_EXPOSED_MEMBERS: Members = {
    "name": ("name", decode_name),
    "hostPort": ("host_port", unsigned),
    "hostIP": ("host_ip", _decode_address),
    "podPort": ("pod_port", optional(Port.from_value)),
}
