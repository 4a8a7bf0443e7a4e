"""Giving back what a network took when its plugin is not installed any more.

The interfaces of a pod go with its namespace, and the rules rkt or ``ptp`` and ``bridge`` have made are
known by the pod's UUID.  What is left are addresses: the address management is a plugin of its own and may
still be there; of ``host-local`` it is also known how it keeps its leases (a file per address, named
after it, with container id and interface as its lines).
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux.lock import Lock
from rkt.network import plugins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.network.attachment import Network, Step

# Standard plugins that leave nothing but addresses and rules outside of the pod's namespace.
CONTAINED = ("bridge", "ipvlan", "loopback", "macvlan", "ptp", "sbr", "tuning", "vlan", "vrf")
_HOST_LOCAL = "host-local"
_DATA_DIRECTORY = "/var/lib/cni/networks"


def release(network: Network, step: Step, invocation: plugins.Invocation) -> None:
    """DEL without the plugin itself; RktError where nobody knows what it has left."""
    if step.type not in CONTAINED:
        plugins.find(step.type, invocation.directories)
    management = step.config.get("ipam")
    if not isinstance(management, dict) or not management.get("type"):
        return
    kind = str(management["type"])
    path = plugins.look_up(kind, invocation.directories) if "/" not in kind else ""
    if path:
        text = network.text(step, network.previous)
        plugins.run("DEL", path, text, invocation=invocation, version=network.version)
    elif kind == _HOST_LOCAL:
        _release_host_local(network.config.name, management.get("dataDir"), invocation)
    elif kind != "static":
        plugins.find(kind, invocation.directories)


def _release_host_local(name: str, data: object, invocation: plugins.Invocation) -> None:
    parent = data if isinstance(data, str) and data else _DATA_DIRECTORY
    directory = os.path.join(parent, name)
    if name in ("", ".", "..") or "/" in name or not os.path.isdir(directory):
        return
    own = ([invocation.container_id, invocation.interface], [invocation.container_id])
    try:
        with Lock.open(directory) as lock:
            lock.exclusive()
            for entry in os.scandir(directory):
                if not entry.name[:1].isalnum() or not entry.is_file(follow_symlinks=False):
                    continue
                with open(entry.path, encoding="utf-8", errors="replace") as file:
                    if file.read(4096).split() in own:
                        os.unlink(entry.path)
    except OSError as exc:
        raise RktError(f"cannot give back the addresses in {directory}") from exc
