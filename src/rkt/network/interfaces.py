"""Interfaces of the namespace the caller is in, by ioctl and rtnetlink: no process is started."""

from __future__ import annotations

import errno
import struct
import sys
from _socket import AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM, socket

from rkt.linux import netlink

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_RTM_GETADDR = 22
_RTM_GETROUTE = 26
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_RTA_DST = 1
_RTA_OIF = 4


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


def with_address(ip: str) -> list[int]:
    """The numbers of the interfaces that have the address ``ip`` (IPv4 or IPv6)."""
    family, wanted = _pack(ip)
    body = _IFADDRMSG.pack(family, 0, 0, 0, 0)
    messages = netlink.ask(netlink.ROUTE, _RTM_GETADDR, netlink.DUMP, body, "list addresses")
    return [_IFADDRMSG.unpack_from(message)[4] for message in messages if _has_address(message, wanted)]


def towards(ip: str) -> int:
    """The number of the interface by which packets to ``ip`` leave, 0 if there is no route."""
    family, address = _pack(ip)
    body = _RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0) + netlink.attribute(_RTA_DST, address)
    try:
        (message,) = netlink.ask(netlink.ROUTE, _RTM_GETROUTE, 0, body, "look up a route")
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return 0
        raise
    index = netlink.attributes(message, _RTMSG.size).get(_RTA_OIF, b"")
    return int.from_bytes(index, sys.byteorder)


def leading_to(ip: str, gateway: str) -> str:
    """The name of the interface behind which ``ip`` is, whose own address is ``gateway``; "" if none is."""
    from _socket import if_indextoname

    index = towards(ip)
    return if_indextoname(index) if index and index in with_address(gateway) else ""


def _pack(ip: str) -> tuple[int, bytes]:
    """The address family of an address, and its bytes."""
    from _socket import inet_pton

    family = AF_INET6 if ":" in ip else AF_INET
    return family, inet_pton(family, ip)


def _has_address(message: bytes, wanted: bytes) -> bool:
    """Whether an RTM_NEWADDR message is of the address; IFA_LOCAL is the own one of a point-to-point link."""
    found = netlink.attributes(message, _IFADDRMSG.size)
    return found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS)) == wanted
