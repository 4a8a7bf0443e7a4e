"""Networks of kinds that the machine's own kernel may lack, with real traffic on Debian's kernel.

A switch (a network namespace at the other end of a cable) has the peers: a web server in VLAN 5, one in the
untagged network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from host_pods import SECONDS, assert_as_before, rkt, snapshot

from support import aci, hosts

CONFIGURATIONS = "/etc/rkt/net.d"
PREPARE = """
set -e
ip netns add switch
ip link add trunk0 type veth peer name trunk1 netns switch
ip link set trunk0 up
ip -n switch link set lo up
ip -n switch link set trunk1 up
ip -n switch address add 10.56.0.1/24 dev trunk1
ip -n switch neighbour add 10.56.0.3 lladdr "$(cat /sys/class/net/trunk0/address)" dev trunk1
ip -n switch link add link trunk1 name tagged5 type vlan id 5
ip -n switch link set tagged5 up
ip -n switch address add 10.55.0.1/24 dev tagged5
mkdir -p /srv/tagged /srv/untagged
echo "tagged" >/srv/tagged/page
echo "untagged" >/srv/untagged/page
ip netns exec switch busybox httpd -p 10.55.0.1:80 -h /srv/tagged
ip netns exec switch busybox httpd -p 10.56.0.1:80 -h /srv/untagged
"""


@pytest.fixture(scope="module")
def machine(virtual_machine: hosts.Host) -> Iterator[hosts.Host]:
    """The virtual machine with the switch, and nothing more of it at the end."""
    virtual_machine.ok(["sh", "-c", PREPARE])
    virtual_machine.ok(["mkdir", "-p", CONFIGURATIONS])
    yield virtual_machine
    virtual_machine.ok(["sh", "-c", "kill $(ip netns pids switch); ip netns delete switch"])
    virtual_machine.ok(["rm", "-r", CONFIGURATIONS])


@pytest.fixture(scope="module")
def image(machine: hosts.Host, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = aci.busybox(os.fspath(tmp_path_factory.mktemp("images") / "box.aci"))
    return machine.put(path, "/var/lib/images/network.aci")


@pytest.fixture(autouse=True)
def clean(machine: hosts.Host) -> Iterator[None]:
    """Each test's pods leave nothing after gc."""
    before = snapshot(machine)
    yield
    for _ in range(2):
        done = rkt(machine, "gc", "--grace-period=0s")
        assert done.code == 0, done
    assert_as_before(machine, before)


def configure(machine: hosts.Host, name: str, value: dict[str, Any]) -> None:
    text = json.dumps({"cniVersion": "1.0.0", "name": name, **value})
    machine.write(f"{CONFIGURATIONS}/10-{name}.conf", text.encode())


def static(address: str) -> dict[str, Any]:
    return {"type": "static", "addresses": [{"address": address}]}


def run(machine: hosts.Host, image: str, net: str, script: str) -> str:
    """What a pod prints, without the console's prefix."""
    words = ["run", f"--net={net}", image, "--exec=/bin/sh", "--", "-c", script]
    done = rkt(machine, "--insecure-options=image", *words)
    assert done.code == 0, done
    return "".join(line.partition("]: ")[2].strip() + "\n" for line in done.out.splitlines())


def fetch(address: str) -> str:
    """A command that prints the page of a peer, or ``nobody``."""
    # The wget of a static busybox does not work without the host's libraries.
    ask = f"printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | nc -w 20 {address} 80 2>/dev/null"
    return f"answer=$({ask}) && echo $answer | sed 's/.* //' || echo nobody"


@pytest.mark.promise("P7")
def test_vlan(machine: hosts.Host, image: str) -> None:
    """In its VLAN a pod has a peer; the same address in another VLAN, or without a tag, has nobody."""
    for name, number in (("five", 5), ("six", 6)):
        value = {"type": "vlan", "master": "trunk0", "vlanId": number, "ipam": static("10.55.0.2/24")}
        configure(machine, name, value)
    assert run(machine, image, "five", fetch("10.55.0.1")) == "tagged\n"
    assert run(machine, image, "six", fetch("10.55.0.1")) == "nobody\n"


@pytest.mark.promise("P7")
@pytest.mark.parametrize(("mode", "address"), [("l2", "10.56.0.2/24"), ("l3", "10.56.0.3/24")])
def test_ipvlan(machine: hosts.Host, image: str, mode: str, address: str) -> None:
    """Mode l3 answers no ARP: the switch has been told whose address it is."""
    value = {"type": "ipvlan", "master": "trunk0", "mode": mode, "ipam": static(address)}
    configure(machine, f"ipvlan-{mode}", value)
    assert run(machine, image, f"ipvlan-{mode}", fetch("10.56.0.1")) == "untagged\n"


# A third party's plugin: a port of an Open vSwitch bridge, with a VLAN tag.
OVS = r"""#!/usr/bin/python3 -IS
import json, os, subprocess, sys
config = json.load(sys.stdin)
netns, interface = os.environ["CNI_NETNS"], os.environ["CNI_IFNAME"]
port = "ovs" + os.environ["CNI_CONTAINERID"][:8]
def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        print(json.dumps({"code": 100, "msg": " ".join(words), "details": done.stderr}))
        sys.exit(1)
if os.environ["CNI_COMMAND"] == "ADD":
    run("ip", "link", "add", port, "type", "veth", "peer", "name", "p" + port)
    run("ip", "link", "set", "p" + port, "netns", netns)
    inside = ["nsenter", "--net=" + netns, "ip"]
    run(*inside, "link", "set", "p" + port, "name", interface)
    run(*inside, "address", "add", config["address"], "dev", interface)
    run(*inside, "link", "set", interface, "up")
    run("ip", "link", "set", port, "up")
    run("ovs-vsctl", "add-port", config["bridge"], port, f"tag={config['tag']}")
    print(json.dumps({"cniVersion": "1.0.0", "interfaces": [{"name": interface, "sandbox": netns}],
        "ips": [{"address": config["address"], "interface": 0}]}))
elif os.environ["CNI_COMMAND"] == "DEL":
    run("ovs-vsctl", "--if-exists", "del-port", config["bridge"], port)
    subprocess.run(["ip", "link", "delete", port], capture_output=True)
"""


@pytest.mark.promise("P7")
def test_open_vswitch(machine: hosts.Host, image: str) -> None:
    """The switch is a port of the bridge with VLAN 5 and 7; a pod with tag 5 has a peer, with 7 none."""
    machine.ok(["/usr/share/openvswitch/scripts/ovs-ctl", "--system-id=random", "start"], SECONDS)
    machine.ok(["ovs-vsctl", "add-br", "ovsbr0", "--", "add-port", "ovsbr0", "trunk0", "trunks=5,7"], SECONDS)
    machine.write(f"{CONFIGURATIONS}/ovs-port", OVS.encode(), 0o755)
    try:
        for tag in (5, 7):
            value = {"type": "ovs-port", "bridge": "ovsbr0", "tag": tag, "address": "10.55.0.3/24"}
            configure(machine, f"ovs{tag}", value)
        assert run(machine, image, "ovs5", fetch("10.55.0.1")) == "tagged\n"
        assert run(machine, image, "ovs7", fetch("10.55.0.1")) == "nobody\n"
        ports = machine.ok(["ovs-vsctl", "list-ports", "ovsbr0"]).out.split()
        assert len(ports) == 3
        for _ in range(2):
            assert rkt(machine, "gc", "--grace-period=0s").code == 0
        assert machine.ok(["ovs-vsctl", "list-ports", "ovsbr0"]).out.split() == ["trunk0"]
    finally:
        machine.ok(["ovs-vsctl", "del-br", "ovsbr0"], SECONDS)
        machine.ok(["/usr/share/openvswitch/scripts/ovs-ctl", "stop"], SECONDS)
        machine.run(["ip", "link", "delete", "ovs-system"])
