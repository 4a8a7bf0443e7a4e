"""Who has the ports of the host that a pod wants: programs of the host, and other pods.

Looked up before anything is made for the pod.  There is no lock over all pods: see ``check_pods``.
"""

from __future__ import annotations

import _socket
import errno
import os

from rkt.errors import RktError
from rkt.linux.lock import Lock
from rkt.network import forwarding, record
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


def check_pods(pod_dir: str, wanted: list[ForwardedPort]) -> None:
    """RktError when a running pod of the same directory has one of the ports.

    Each pod records its ports before it looks at the others', so of two that start at once at least one
    sees the other.  An ended pod's rules stay until it is collected; the new pod's come before them.
    """
    parent, own = os.path.split(pod_dir)
    for name in os.listdir(parent):
        other = os.path.join(parent, name)
        if name == own or not os.path.isdir(other):
            continue
        try:
            known = record.load(other)
            if known is None or not any(a.conflicts_with(b) for a in wanted for b in known.ports):
                continue
            with Lock.open(other) as lock:
                if lock.try_shared():
                    continue
        except (FileNotFoundError, RktError):
            continue  # vanished, or damaged: its own gc reports that
        forwarding.check_conflicts(wanted, known.ports, name)
