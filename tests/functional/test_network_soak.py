"""Many pods with networks and ports, collected meanwhile: the machine is as before.

Two hundred, or as many as ``RKT_SOAK`` says.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from network_host import Host
from network_site import Site, stage1_host  # noqa: F401

from support import aci
from support.driver import Rkt

PODS = int(os.environ.get("RKT_SOAK", "200"))
AT_ONCE = 4
DUAL = {
    "cniVersion": "1.0.0",
    "name": "dual",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.90.0.0/22"}], [{"subnet": "fd00:90::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        },
        {"type": "tuning", "mtu": 1400},
    ],
}


@pytest.fixture
def site(tmp_path: os.PathLike[str], stage1_host: str) -> Iterator[Site]:  # noqa: F811
    host = Host(os.fspath(tmp_path))
    host.network("10-dual.conflist", DUAL)
    yield Site(host, Rkt(host.directory), stage1_host)
    host.close()


@pytest.mark.promise("P7")
@pytest.mark.timeout(120 + 10 * PODS)
def test_many_pods(site: Site, tmp_path: os.PathLike[str]) -> None:
    """Every third pod is killed at its start, every fifth wants a port that another has; gc runs beside."""
    ports = [
        {"name": "web", "protocol": "tcp", "port": 80},
        {"name": "range", "protocol": "udp", "port": 5000, "count": 3},
    ]
    app = aci.app("/bin/sleep", "0.1", ports=ports)
    image = aci.busybox(os.path.join(tmp_path, "box.aci"), app=app)
    assert site("fetch", image).code == 0
    before, mounts = site.host.state(), mounted(site)
    running: list[subprocess.Popen[str]] = []
    collecting: list[subprocess.Popen[str]] = []
    for number in range(PODS):
        if len(running) == AT_ONCE:
            finish(running.pop(0))
        first = 9000 if number % 5 == 0 else 10000 + number
        net = "default,dual" if number % 2 else "dual,default-restricted"
        words = (f"--net={net}", f"--port=web:{first}", f"--port=range:{20000 + 3 * number}", image)
        running.append(site.start(*words))
        if number % 3 == 0:
            try:
                running[-1].wait(0.05 + 0.03 * (number % 7))
            except subprocess.TimeoutExpired:
                running[-1].kill()
        if number % 10 == 9:
            collecting.append(site.begin("gc", "--grace-period=0s"))
    for process in running:
        finish(process)
    for process in collecting:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    stop_all(site)
    site.collect()
    assert site.host.state() == before
    assert mounted(site) == mounts
    for directory in ("run", "exited-garbage", "garbage", "prepare", "embryo"):
        assert os.listdir(os.path.join(site.program.dir, "pods", directory)) == []


def mounted(site: Site) -> list[str]:
    """What rkt may have mounted on the host; the machine's other mounts are copied into it."""
    points = [line.split()[4] for line in site.host.ok("cat", "/proc/self/mountinfo").splitlines()]
    return sorted(point for point in points if point.startswith((site.host.directory, "/run")))


def finish(process: subprocess.Popen[str]) -> None:
    out, _ = process.communicate(timeout=300)
    accepted = process.returncode in (0, -9) or "already mapped" in out or "is in use" in out
    assert accepted, (process.returncode, out)


def stop_all(site: Site) -> None:
    """Apps of killed commands may still be at their end."""
    for line in site("list", "--full", "--no-legend").out.splitlines():
        if "\trunning\t" in line:
            site("stop", "--force", line.split("\t")[0])
            site("status", "--wait=120s", line.split("\t")[0])
