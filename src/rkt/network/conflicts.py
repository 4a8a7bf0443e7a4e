"""Whether a program of the host has a port that a pod wants, looked up before anything is made for the pod.

Other pods, which have no sockets there, are met by ``rkt.network.claims``.
"""

from __future__ import annotations

import _socket
import errno

from rkt.errors import RktError
from rkt.network import forwarding
from rkt.network.forwarding import ForwardedPort


def check_host(wanted: list[ForwardedPort]) -> None:
    """RktError when a program on the host listens on one of the ports: the rules would take them from it.

    The caller is in the host's namespace.  Addresses that the host has not got (yet) are in nobody's use.
    """
    for forward in wanted:
        for family in forward.families:
            for number in forward.host_ports:
                if _is_in_use(forward, family, number):
                    raise RktError(f"port {forward} is in use: a program of the host listens on {number}")


def _is_in_use(forward: ForwardedPort, family: int, number: int) -> bool:
    if forward.protocol not in ("tcp", "udp"):
        return False
    kind = _socket.SOCK_STREAM if forward.protocol == "tcp" else _socket.SOCK_DGRAM
    try:
        probe = _socket.socket(_socket.AF_INET6 if family == 6 else _socket.AF_INET, kind)
    except OSError:  # a kernel without IPv6
        return False
    try:
        if forward.protocol == "tcp":  # connections that have ended are no listener
            probe.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == 6:
            probe.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        address = forward.host_ip or (forwarding.ANY6 if family == 6 else forwarding.ANY)
        probe.bind((address, number))
    except OSError as exc:
        return exc.errno == errno.EADDRINUSE
    finally:
        probe.close()
    return False
