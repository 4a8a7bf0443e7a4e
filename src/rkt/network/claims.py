"""Which pod has which ports of the host, so that of all that want one exactly one gets it.

    /run/rkt/ports/UUID   a pod's claim: from before anything is made for it until its network is taken down
    /run/rkt/ports/.lock  byte N is locked by who looks for claims of port N and then writes its own

A claim counts as long as its pod runs, which is as long as the pod's directory is locked: whatever is
killed, nothing has to be cleaned up for the port to be free.  Pods of all data directories meet here, and
none waits for another that wants other ports.  Pods in different network namespaces have different ports.

With the claim goes a setting of the kernel that ports need on an interface of the host, which several pods
may share: the first to need it keeps how it was, the last sets it back (byte 65536 is locked meanwhile).
"""

from __future__ import annotations

import os

from rkt.appc import gojson
from rkt.errors import RktError
from rkt.linux import files
from rkt.linux.lock import Lock, lock_ranges
from rkt.network import forwarding, record
from rkt.network.forwarding import ForwardedPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIRECTORY = "/run/rkt/ports"
_LOCK = ".lock"
_LOOPBACK_BYTE = 1 << 16
_SETTING = "/proc/sys/net/ipv4/conf/{}/route_localnet"


class Claim:
    """A pod's directory and network namespace (of the host), and the ports it has.

    ``loopback`` has the interfaces that were opened for it (see ``open_loopback``) with what their setting
    was before any pod had them.
    """

    __slots__ = ("loopback", "namespace", "pod_dir", "ports", "uuid")

    def __init__(self, uuid: str, pod_dir: str, namespace: int, ports: list[ForwardedPort]) -> None:
        self.uuid = uuid
        self.pod_dir = pod_dir
        self.namespace = namespace
        self.ports = ports
        self.loopback: dict[str, str] = {}

    @classmethod
    def load(cls, uuid: str) -> Claim | None:
        """The claim of a pod; None for one that has vanished, or was never written to its end."""
        try:
            with open(os.path.join(DIRECTORY, uuid), "rb") as file:
                value = gojson.loads(file.read())
            ports = [ForwardedPort.from_value(item) for item in value["ports"]]
            claim = cls(uuid, str(value["pod"]), int(value["namespace"]), ports)
            claim.loopback.update((str(name), str(was)) for name, was in value["loopback"].items())
            return claim
        except (OSError, RktError, AttributeError, KeyError, TypeError, ValueError):
            return None

    def save(self) -> None:
        value = {
            "pod": self.pod_dir,
            "namespace": self.namespace,
            "ports": [port.to_value() for port in self.ports],
            "loopback": self.loopback,
        }
        record.replace(os.path.join(DIRECTORY, self.uuid), gojson.dumps(value) + "\n", 0o600)

    @property
    def is_live(self) -> bool:
        """Whether its pod still runs."""
        try:
            with Lock.open(self.pod_dir) as lock:
                return not lock.try_shared()
        except OSError:
            return False


def take(uuid: str, pod_dir: str, ports: list[ForwardedPort], notify: Callable[[str], None]) -> None:
    """Claim ports for a pod whose directory the caller has locked; it is in the host's namespace.

    RktError when another running pod has one of them.  ``notify`` is told when another pod is just being
    given one.
    """

    def waiting() -> None:
        notify("waiting for another pod that is being given a port of this one")

    files.make_directory(DIRECTORY, 0o700, parents=True)
    mine = Claim(uuid, os.path.abspath(pod_dir), _namespace(), ports)
    with _locked([(port.host_port, port.count) for port in ports], waiting):
        for other in _others(mine):
            conflict = any(a.conflicts_with(b) for a in ports for b in other.ports)
            if conflict and other.is_live:
                forwarding.check_conflicts(ports, other.ports, other.uuid)
        mine.save()


def open_loopback(uuid: str, interface: str) -> None:
    """Let packets of the host's loopback addresses out to an interface, for a pod that has a claim.

    Only with this does the kernel route packets from 127.0.0.1 out of the host.
    """
    with _locked([(_LOOPBACK_BYTE, 1)]):
        claim = Claim.load(uuid)
        if claim is None:
            raise RktError(f"the claim of pod {uuid} in {DIRECTORY} has vanished")
        known = [other.loopback[interface] for other in _others(claim) if interface in other.loopback]
        claim.loopback[interface] = known[0] if known else _loopback(interface)
        claim.save()
        _set_loopback(interface, "1")


def give_back(uuid: str) -> None:
    """Forget what a pod has claimed; nothing to do is no error."""
    if not os.path.isdir(DIRECTORY):
        return
    with _locked([(_LOOPBACK_BYTE, 1)]):
        claim = Claim.load(uuid)
        if claim is not None and claim.namespace == _namespace():
            shared = {name for other in _others(claim) for name in other.loopback}
            for interface in claim.loopback.keys() - shared:
                try:
                    _set_loopback(interface, claim.loopback[interface])
                except FileNotFoundError:  # it went with the pod
                    pass
        for name in (uuid, f"{uuid}.new"):  # the second by a setup that was killed
            record.unlink(os.path.join(DIRECTORY, name))


def _locked(ranges: list[tuple[int, int]], waiting: Callable[[], object] | None = None) -> Lock:
    """The lock file with these bytes locked; to be used in ``with``."""
    path = os.path.join(DIRECTORY, _LOCK)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    lock = Lock(fd, path)
    try:
        lock_ranges(fd, ranges, waiting)
    except BaseException:
        lock.close()
        raise
    return lock


def _others(mine: Claim) -> Iterator[Claim]:
    """The other claims in the same namespace."""
    for name in os.listdir(DIRECTORY):
        claim = Claim.load(name) if name != mine.uuid and "." not in name else None
        if claim is not None and claim.namespace == mine.namespace:
            yield claim


def _loopback(interface: str) -> str:
    with open(_SETTING.format(interface)) as file:
        return file.read().strip()


def _set_loopback(interface: str, value: str) -> None:
    with open(_SETTING.format(interface), "wb", buffering=0) as file:
        file.write(value.encode())


def _namespace() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino
