"""SIGKILL before every call of the kernel that setup and teardown make: the next teardown gives all back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from network_host import SOURCE, UUID, Host, python

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Runs on the host of the test: prints how many calls there were, and what was left after one of them.
DRIVER = """
import json, os, subprocess, sys, time
sys.path[:0] = [{source!r}, {tests!r}]
from rkt.errors import one_line
from rkt.linux import libc
from rkt.network import lifecycle
from rkt.network.forwarding import ForwardedPort
from rkt.network.selection import parse_networks
from support.crash import Crash

POD, CONFIG, NET, INTERRUPTED = sys.argv[1:]
PORTS = [ForwardedPort("tcp", "", 8080, 80), ForwardedPort("udp", "", 5353, 53)]
MORE = [(os, ["posix_spawn", "waitpid", "pidfd_open"]), (libc, ["mount", "umount2", "setns", "unshare"])]

def setup():
    networks = parse_networks(NET)
    lifecycle.setup(lifecycle.NetworkRequest({uuid!r}, POD, networks, local_config=CONFIG, ports=PORTS))

def teardown():
    faults = lifecycle.teardown(POD, {uuid!r}, CONFIG)
    assert not faults, [one_line(fault) for fault in faults]

def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout

def names(directory):
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []

def state():
    saved = run("iptables-save") + run("ip6tables-save")
    rules = [line.split(" [")[0] for line in saved.splitlines()]
    leases = run("find", "/var/lib/cni", "-name", "[0-9]*").split()
    return {{
        "rules": [line for line in rules if line.startswith(("-", ":RKT", ":CNI"))],
        "links": sorted(link["ifname"] for link in json.loads(run("ip", "-j", "link"))),
        "namespaces": names("/run/netns"),
        "leases": leases,
        "claims": [name for name in names("/run/rkt/ports") if name != ".lock"],
        "record": [name for name in ("netns", "net/record.json") if os.path.lexists(POD + "/" + name)],
    }}

whole = Crash(setup)
setup_done = whole.at(1 << 30)
assert setup_done
assert Crash(teardown).at(1 << 30)
before = state()
for number in range(1, 10000):
    work = setup if INTERRUPTED == "setup" else teardown
    if work is teardown:
        assert whole.at(1 << 30)
    ended = Crash(work, MORE).at(number)
    assert Crash(teardown).at(1 << 30)
    deadline = time.monotonic() + 120
    while (now := state()) != before and time.monotonic() < deadline:
        time.sleep(0.02)
    if now != before:
        print(json.dumps([number, before, now]))
        break
    if ended:
        print(json.dumps([number]))
        break
"""


@pytest.fixture
def host(tmp_path: os.PathLike[str]) -> Iterator[Host]:
    made = Host(os.fspath(tmp_path))
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": "10.90.0.0/24"}], [{"subnet": "fd00:90::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    plugins = [{"type": "ptp", "ipMasq": True, "ipam": ipam}, {"type": "tuning", "mtu": 1400}]
    made.network("10-dual.conflist", {"cniVersion": "1.0.0", "name": "dual", "plugins": plugins})
    yield made
    made.close()


@pytest.mark.promise("P1")
@pytest.mark.promise("P7")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("interrupted", ["setup", "teardown"])
def test_killed_before_every_call(host: Host, interrupted: str) -> None:
    code = DRIVER.format(source=os.path.abspath(SOURCE), tests=TESTS, uuid=UUID)
    said = host.ok(*python(code), host.pod(), host.config, "dual", interrupted, timeout=850)
    number, *left = json.loads(said.splitlines()[-1])
    assert left == [], said
    assert number > 40
