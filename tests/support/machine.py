"""What a machine holds that a pod could leave behind, to be compared before and after."""

from __future__ import annotations

import os
import subprocess
import time

Changes = dict[str, tuple[list[str], list[str]]]


class Snapshot:
    """Mount points, cgroups, network namespaces, links, firewall rules and leases of now."""

    __slots__ = ("cgroups", "leases", "links", "mounts", "namespaces", "rules")

    def __init__(self) -> None:
        self.mounts = _mounts()
        self.cgroups = _cgroups()
        self.namespaces = _names("/run/netns")
        self.links = _names("/sys/class/net")
        self.rules = _rules()
        self.leases = _leases()

    def difference(self, other: Snapshot) -> Changes:
        """What ``other`` has lost and gained, by kind; empty when both are equal."""
        changes = {}
        for kind in self.__slots__:
            before, after = getattr(self, kind), getattr(other, kind)
            if before != after:
                changes[kind] = (sorted(before - after), sorted(after - before))
        return changes

    def lasting_difference(self) -> Changes:
        """What the machine has lost and gained since, but for what the kernel takes away a moment after its
        owner: links of a network namespace, control groups."""
        deadline = time.monotonic() + 20
        while (found := self.difference(Snapshot())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


def _names(directory: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(directory))
    except FileNotFoundError:
        return frozenset()


def _mounts() -> frozenset[str]:
    """Mount points; the parent of network namespaces may stay a shared mount, as ``ip netns`` makes it."""
    with open("/proc/self/mountinfo") as file:
        points = {line.split()[4] for line in file}
    return frozenset(points - {"/run/netns", "/var/run/netns"})


def _cgroups() -> frozenset[str]:
    found = set()
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        # What runs inside a test host is for the tests on that host.
        names[:] = [name for name in names if not name.startswith("testhost-")]
        found.update(os.path.join(directory, name) for name in names if "rkt" in name)
    return frozenset(found)


def _rules() -> frozenset[str]:
    lines = set()
    for command in ("iptables-save", "ip6tables-save"):
        try:
            done = subprocess.run([command], capture_output=True, text=True, check=False, timeout=20)
        except FileNotFoundError:
            continue
        lines.update(f"{command}: {line}" for line in done.stdout.splitlines() if line.startswith("-A"))
        lines.update(
            f"{command}: {line.split()[0]}"
            for line in done.stdout.splitlines()
            if line.startswith((":RKT", ":CNI"))
        )
    return frozenset(lines)


def _leases() -> frozenset[str]:
    found = set()
    for directory, _, names in os.walk("/var/lib/cni/networks"):
        found.update(os.path.join(directory, name) for name in names if name[:1].isdigit())
    return frozenset(found)


def tree(directory: str) -> dict[str, tuple[int, int, int, int, str]]:
    """Every path below ``directory`` with mode, owner, size and link target: a host tree to compare."""
    found = {}
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            target = os.readlink(path) if os.path.islink(path) else ""
            size = 0 if os.path.isdir(path) else status.st_size
            found[path] = (status.st_mode, status.st_uid, status.st_gid, size, target)
    return found
