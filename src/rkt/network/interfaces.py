"""Interfaces of the namespace the caller is in, by ioctl and rtnetlink: no process is started."""

from __future__ import annotations

import struct
from _socket import AF_INET, AF_INET6, AF_NETLINK, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_RAW, socket

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_NETLINK_ROUTE = 0
_RTM_GETADDR = 22
_NLM_F_REQUEST = 0x1
_NLM_F_DUMP = 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSG_HEADER = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_BUFFER = 1 << 16


def loopback_up() -> None:
    """Bring ``lo`` up; the kernel gives it 127.0.0.1 and ::1 at that moment."""
    import fcntl

    control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack_from("h", fcntl.ioctl(control.fileno(), _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))
    finally:
        control.close()


def with_address(ip: str) -> list[str]:
    """The names of the interfaces that have the address ``ip`` (IPv4 or IPv6)."""
    from _socket import if_indextoname, inet_pton

    family = AF_INET6 if ":" in ip else AF_INET
    wanted = inet_pton(family, ip)
    return [if_indextoname(index) for index in _indexes(family, wanted)]


def _indexes(family: int, wanted: bytes) -> list[int]:
    indexes: list[int] = []
    connection = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, _NETLINK_ROUTE)
    try:
        body = _IFADDRMSG.pack(family, 0, 0, 0, 0)
        size = _NLMSG_HEADER.size + len(body)
        connection.send(_NLMSG_HEADER.pack(size, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0) + body)
        while True:
            data = connection.recv(_BUFFER)
            offset = 0
            while offset < len(data):
                length, kind = _NLMSG_HEADER.unpack_from(data, offset)[:2]
                if kind == _NLMSG_DONE:
                    return indexes
                if kind == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data, offset + _NLMSG_HEADER.size)[0]
                    raise OSError(number, "rtnetlink: list addresses")
                message = data[offset + _NLMSG_HEADER.size : offset + length]
                if _has_address(message, wanted):
                    indexes.append(_IFADDRMSG.unpack_from(message)[4])
                offset += (length + 3) & ~3
    finally:
        connection.close()


def _has_address(message: bytes, wanted: bytes) -> bool:
    """Whether an RTM_NEWADDR message is of the address; IFA_LOCAL is the own one of a point-to-point link."""
    found: dict[int, bytes] = {}
    offset = _IFADDRMSG.size
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = message[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS)) == wanted
