"""What the kernel remembers of UDP: without connections, an old flow keeps going where it went.

Packets of a flow that the kernel tracks (nf_conntrack) pass the rules of the first one.  When a port begins
to be forwarded, or no longer is, the flows to it are forgotten, so that the next packet finds the rules of
now; else a client that keeps its port would talk to a pod that is gone, or to whoever has its address next.
"""

from __future__ import annotations

import _socket
import sys

from rkt.linux import netlink
from rkt.network.forwarding import ForwardedPort

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
_GET = 1 << 8 | 1
_DELETE = 1 << 8 | 2
_TUPLE_ORIG = 1
_TUPLE_IP = 1
_TUPLE_PROTO = 2
_DESTINATION = {4: 2, 6: 4}  # CTA_IP_V4_DST, CTA_IP_V6_DST
_PROTO_NUM = 1
_PROTO_DST_PORT = 3
_FILTER = 25
_FILTER_ORIG_FLAGS = 1
_FILTER_PROTO_NUM = 1 << 3
_UDP = 17


def forget(ports: list[ForwardedPort]) -> None:
    """Forget flows of UDP to these ports of the host; the caller is in the host's namespace.

    Raises the kernel's OSError.
    """
    for family, kind in ((4, _socket.AF_INET), (6, _socket.AF_INET6)):
        wanted = [port for port in ports if port.protocol == "udp" and family in port.families]
        if not wanted:
            continue
        header = bytes((kind, 0, 0, 0))  # struct nfgenmsg
        local: dict[bytes, bool] = {}
        for message in netlink.ask(
            netlink.NETFILTER, _GET, netlink.DUMP, header + _only_udp(), "list tracked connections"
        ):
            original = netlink.attributes(message, len(header)).get(_TUPLE_ORIG, b"")
            address, number = _destination(original, family)
            if not address or not any(_is_for(port, kind, address, number) for port in wanted):
                continue
            if address not in local:
                local[address] = _is_local(kind, address)
            if local[address]:
                _delete(header, original)


def _only_udp() -> bytes:
    """A filter for the kernel; one before 5.8 ignores it."""
    protocol = netlink.attribute(_PROTO_NUM, bytes((_UDP,)))
    original = netlink.attribute(_TUPLE_PROTO | netlink.NESTED, protocol)
    flags = netlink.attribute(_FILTER_ORIG_FLAGS, _FILTER_PROTO_NUM.to_bytes(4, sys.byteorder))
    return netlink.attribute(_TUPLE_ORIG | netlink.NESTED, original) + netlink.attribute(
        _FILTER | netlink.NESTED, flags
    )


def _destination(original: bytes, family: int) -> tuple[bytes, int]:
    """Address and port that the first packet of a flow of UDP went to; an empty address for other flows."""
    parts = netlink.attributes(original)
    addresses = netlink.attributes(parts.get(_TUPLE_IP, b""))
    protocol = netlink.attributes(parts.get(_TUPLE_PROTO, b""))
    if protocol.get(_PROTO_NUM) != bytes((_UDP,)):
        return b"", 0
    return addresses.get(_DESTINATION[family], b""), int.from_bytes(protocol.get(_PROTO_DST_PORT, b""), "big")


def _is_for(port: ForwardedPort, kind: int, address: bytes, number: int) -> bool:
    if number not in port.host_ports:
        return False
    return port.is_for_any_address or _socket.inet_pton(kind, port.host_ip) == address


def _is_local(kind: int, address: bytes) -> bool:
    """Whether the host has the address: flows through it to others are none of ours."""
    probe = _socket.socket(kind, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        probe.bind((_socket.inet_ntop(kind, address), 0))
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _delete(header: bytes, original: bytes) -> None:
    body = header + netlink.attribute(_TUPLE_ORIG | netlink.NESTED, original)
    try:
        netlink.ask(netlink.NETFILTER, _DELETE, netlink.ACKNOWLEDGE, body, "forget a tracked connection")
    except FileNotFoundError:  # it has just ended
        pass
