"""The standard plugins of the distribution, and one of the tests' own, on real namespaces."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from network_host import UUID, Host, python, serve

from support.waiting import until

OTHER = "aaaaaaaa-4b5a-4978-8695-a4b3c2d1e0f1"


@pytest.fixture
def host(tmp_path: os.PathLike[str]) -> Iterator[Host]:
    """What pods leave on it is looked at by each test: bridges and some chains belong to the host."""
    made = Host(os.fspath(tmp_path))
    yield made
    made.close()


@pytest.fixture
def clean(host: Host) -> Iterator[None]:
    before = host.state()
    yield
    assert host.state() == before


def ipam(subnet: str, **more: Any) -> dict[str, Any]:
    return {"type": "host-local", "subnet": subnet, **more}


def conflist(name: str, *plugins: dict[str, Any], version: str = "1.0.0") -> dict[str, Any]:
    return {"cniVersion": version, "name": name, "plugins": list(plugins)}


BRIDGE = {
    "type": "bridge",
    "bridge": "testbr0",
    "isGateway": True,
    "ipMasq": True,
    "hairpinMode": True,
    "ipam": ipam("10.78.0.0/24", routes=[{"dst": "0.0.0.0/0"}]),
}


def end(process: subprocess.Popen[str]) -> str:
    process.kill()
    return process.communicate()[0]


def test_bridge_pods_see_each_other_and_the_world(host: Host) -> None:
    host.network("10-b.conf", {"cniVersion": "0.4.0", "name": "b", **BRIDGE})
    before = host.state()
    first, server = host.start("b", *serve("first", 80))
    world = subprocess.Popen(host.world(*serve("world", 7)), stdout=subprocess.PIPE, text=True)
    try:
        for process in (server, world):
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
        address = first["networks"][0]["ip"]
        code = (
            f"import socket\nfor peer in (({address!r}, 80), ('203.0.113.1', 7)):\n"
            "    print(socket.create_connection(peer, 60).recv(99).decode())"
        )
        second, inside = host.setup("b", *python(code), uuid=OTHER)
        assert inside.splitlines() == [f"first 80 {second['networks'][0]['ip']}", "world 7 203.0.113.2"]
    finally:
        end(server)
        end(world)
    assert host.teardown() == []
    assert host.teardown(OTHER) == []
    after = host.state()
    assert set(after.pop("links")) - set(before.pop("links")) == {"testbr0"}
    assert after == before


def test_macvlan_between_two_pods(host: Host, clean: None) -> None:
    value = {"type": "macvlan", "master": "up0", "mode": "bridge", "ipam": ipam("203.0.113.0/24")}
    value["ipam"]["rangeStart"] = "203.0.113.100"
    host.network("10-m.conf", {"cniVersion": "0.3.1", "name": "m", **value})
    first, server = host.start("m", *serve("first", 80))
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        address = first["networks"][0]["ip"]
        assert address == "203.0.113.100"
        code = f"import socket; print(socket.create_connection(({address!r}, 80), 60).recv(99).decode())"
        _, inside = host.setup("m", *python(code), uuid=OTHER)
        assert inside == "first 80 203.0.113.101\n"
        assert host.fetch(address, 80, world=True) == "first 80 203.0.113.1"  # on the link itself
    finally:
        end(server)
    assert host.teardown() == []
    assert host.teardown(OTHER) == []


@pytest.mark.promise("P7")
def test_host_device_goes_and_comes_back(host: Host, clean: None) -> None:
    host.ok("ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1")
    value = {"type": "host-device", "device": "spare0", "ipam": {"type": "static", "addresses": []}}
    value["ipam"] = {"type": "static", "addresses": [{"address": "10.77.1.2/24"}]}
    host.network("10-d.conf", {"cniVersion": "1.0.0", "name": "d", **value})
    done, inside = host.setup("d", "ip", "-j", "address")
    assert done["networks"][0]["ip"] == "10.77.1.2"
    assert {link["ifname"] for link in json.loads(inside)} == {"lo", "eth0"}
    assert "spare0" not in host.state()["links"]
    assert host.teardown() == []
    assert {"spare0", "spare1"} <= set(host.state()["links"])
    host.ok("ip", "link", "delete", "spare0")


@pytest.mark.promise("P9")
@pytest.mark.parametrize("kind", ["vlan", "ipvlan"])
def test_a_kind_of_link_that_the_kernel_may_lack(host: Host, clean: None, kind: str) -> None:
    """Without it the pod does not start, and plugin, network and cause are named; with traffic it is tested
    on the virtual machine, whose kernel has both (tests/hosts/test_network.py)."""
    value = {"type": kind, "master": "up0", "vlanId": 5, "ipam": ipam("10.77.2.0/24")}
    host.network("10-v.conf", {"cniVersion": "0.4.0", "name": "v", **value})
    more = ["id", "6"] if kind == "vlan" else []
    probe = host.run("ip", "link", "add", "link", "up0", "name", "probe", "type", kind, *more)
    done, inside = host.setup("v", "ip", "-d", "-j", "link", "show", "eth0")
    if probe.returncode == 0:
        host.ok("ip", "link", "delete", "probe")
        assert json.loads(inside)[0]["linkinfo"]["info_kind"] == kind
    else:
        assert f'error adding network "v": plugin /usr/lib/cni/{kind} failed at ADD' in done["error"]
        assert "not supported" in done["error"]
        assert done["same"]
        assert done["said"] == []
    assert host.teardown() == []


def test_tuning_takes_the_address_of_the_link(host: Host, clean: None) -> None:
    tuning = {
        "type": "tuning",
        "sysctl": {"net.core.somaxconn": "500"},
        "mtu": 1400,
        "capabilities": {"mac": True},
    }
    host.network("10-t.conflist", conflist("t", {"type": "ptp", "ipam": ipam("10.77.3.0/24")}, tuning))
    argv = ["sh", "-c", "cat /proc/sys/net/core/somaxconn; ip -j link show eth0"]
    _, inside = host.setup("t:MAC=02:00:00:00:00:17;IgnoreUnknown=1", *argv)
    first, _, rest = inside.partition("\n")
    assert first == "500"
    (link,) = json.loads(rest)
    assert (link["address"], link["mtu"]) == ("02:00:00:00:00:17", 1400)
    assert host.teardown() == []


def test_portmap_forwards_instead_of_rkt(host: Host) -> None:
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    ptp = {"type": "ptp", "ipam": ipam("10.77.4.0/24", routes=[{"dst": "0.0.0.0/0"}])}
    host.network("10-p.conflist", conflist("p", ptp, portmap))
    _, pod = host.start("default,p", *serve("pod", 80), ports=[("tcp", "", 8080, 80)])
    try:
        assert pod.stdout is not None
        assert pod.stdout.readline() == "listening\n"
        assert host.fetch("203.0.113.2", 8080, world=True) == "pod 80 203.0.113.1"
        assert host.fetch("127.0.0.1", 8080).startswith("pod 80 ")
        rules = "\n".join(host.state()["rules"])
        assert "CNI-DN-" in rules
        assert "RKT-PFWD" not in rules
        done, _ = host.setup("default", ports=[("tcp", "", 8080, 1)], uuid=OTHER)
        assert done["error"] == f"port tcp-0.0.0.0:8080 already mapped to pod port 80 of pod {UUID}"
    finally:
        end(pod)
    assert host.teardown() == []
    left = [line for line in host.state()["rules"] if "8080" in line or "CNI-DN-" in line]
    assert left == []


def test_firewall(host: Host) -> None:
    """It opens the way for a pod where forwarding is refused; its two chains belong to the host."""
    for hook in ("FORWARD",):
        host.ok("iptables", "-P", hook, "DROP")
    bridge = {**BRIDGE, "bridge": "testbr1"}
    host.network("10-f.conflist", conflist("f", bridge, {"type": "firewall"}, version="0.4.0"))
    world = subprocess.Popen(host.world(*serve("world", 7)), stdout=subprocess.PIPE, text=True)
    try:
        assert world.stdout is not None
        assert world.stdout.readline() == "listening\n"
        code = "import socket; print(socket.create_connection(('203.0.113.1', 7), 60).recv(99).decode())"
        done, inside = host.setup("f", *python(code))
        assert inside == "world 7 203.0.113.2\n"
        address = done["networks"][0]["ip"]
        assert any(f"{address}/32" in line for line in host.state()["rules"])
        assert host.teardown() == []
        assert not any(f"{address}/32" in line for line in host.state()["rules"])
    finally:
        end(world)


def rate(host: Host, net: str, *, reverse: bool, **options: Any) -> tuple[float, list[int]]:
    """Megabits per second that iperf3 in a pod gets to (or from) a server in the world, and what the kernel
    was told to limit it to: bytes per second of each direction."""
    server = subprocess.Popen(host.world("iperf3", "-s", "-1"), stdout=subprocess.DEVNULL)
    try:
        host.wait_until_listening(5201, world=True)
        argv = ["iperf3", "-c", "203.0.113.1", "-t", "2", "-O", "1", "-J", *(["-R"] if reverse else [])]
        done, inside = host.setup(net, *argv, **options)
        assert "error" not in done, done
        received = float(json.loads(inside)["end"]["sum_received"]["bits_per_second"]) / 1e6
        return received, host.limits()
    finally:
        assert host.teardown() == []
        server.kill()
        server.wait()


@pytest.mark.promise("P5")
@pytest.mark.parametrize("reverse", [False, True])
def test_bandwidth_of_the_default_network(host: Host, clean: None, reverse: bool) -> None:
    """The isolator's limit, 2.5 MB/s, is kept in each direction; without it the network is faster."""
    limited, limits = rate(host, "default", reverse=reverse, bandwidth=2_500_000)
    assert limits == [2_500_000] * 2
    assert 0 < limited < 24
    assert rate(host, "default", reverse=reverse)[0] > 2 * limited


def test_bandwidth_of_a_list_that_takes_it(host: Host, clean: None) -> None:
    ptp = {"type": "ptp", "ipMasq": True, "ipam": ipam("10.77.5.0/24", routes=[{"dst": "0.0.0.0/0"}])}
    bandwidth = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
    host.network("10-l.conflist", conflist("l", ptp, bandwidth, version="0.3.1"))
    limited, limits = rate(host, "l", reverse=False, bandwidth=2_500_000)
    assert limits == [2_500_000] * 2
    assert 0 < limited < 24


def test_addresses_by_argument_as_a_capability(host: Host, clean: None) -> None:
    static = {"type": "macvlan", "master": "up0", "capabilities": {"ips": True}, "ipam": {"type": "static"}}
    host.network("10-s.conf", {"cniVersion": "0.4.0", "name": "s", **static})
    # Unless told to ignore them, macvlan refuses arguments it does not know, and rkt says so.
    failed, _ = host.setup("s:IP=10.77.6.9/24")
    assert failed["error"].endswith('ARGS: unknown args ["IP=10.77.6.9/24"]')
    assert failed["said"] == []
    done, _ = host.setup("s:IP=10.77.6.9/24;IP=fd00:77::9/64;IgnoreUnknown=1")
    assert "error" not in done, done
    (network,) = done["networks"]
    assert (network["ip"], network["ip6"]) == ("10.77.6.9", "fd00:77::9")
    assert host.teardown() == []


@pytest.fixture
def dhcp_server(host: Host) -> Iterator[str]:
    """dnsmasq in the world; yields the path of its list of leases."""
    leases = os.path.join(host.directory, "leases")
    argv = (
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --no-hosts --bind-interfaces "
        "--interface=up0 --user=root --pid-file= --dhcp-range=203.0.113.50,203.0.113.59,2m "
        "--dhcp-authoritative --log-facility=-"
    ).split()
    server = subprocess.Popen(
        host.world(*argv, f"--dhcp-leasefile={leases}"), stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    assert any("sockets bound" in line for line in iter(server.stderr.readline, ""))
    yield leases
    end(server)


def dhcp_daemon(host: Host) -> subprocess.Popen[str]:
    """The part of the plugin that keeps leases; returns when it can be asked."""
    host.run("rm", "-f", "/run/cni/dhcp.sock")
    daemon = subprocess.Popen(host.command("/usr/lib/cni/dhcp", "daemon"), text=True)
    listening = ["ss", "--no-header", "--listening", "--unix", "src", "/run/cni/dhcp.sock"]
    until(lambda: host.ok(*listening) != "")
    return daemon


def test_dhcp(host: Host, clean: None, dhcp_server: str) -> None:
    """An address of the world's server, reached from there, given back; without the daemon nothing starts."""
    host.network(
        "10-d.conf",
        {
            "cniVersion": "1.0.0",
            "name": "d",
            "type": "macvlan",
            "master": "up0",
            "ipam": {"type": "dhcp"},
        },
    )
    failed, _ = host.setup("d")
    assert failed["error"].startswith('error adding network "d": plugin /usr/lib/cni/macvlan failed at ADD')
    assert "error dialing DHCP daemon" in failed["error"]
    assert failed["said"] == []
    daemon = dhcp_daemon(host)
    try:
        done, pod = host.start("d", *serve("pod", 80))
        assert "error" not in done, done
        address = done["networks"][0]["ip"]
        assert address.startswith("203.0.113.5")
        assert pod.stdout is not None
        assert pod.stdout.readline() == "listening\n"
        assert host.fetch(address, 80, world=True) == "pod 80 203.0.113.1"
        with open(dhcp_server) as file:
            assert address in file.read()
        end(pod)
        end(daemon)
        (fault,) = host.teardown()  # kept until the daemon is back
        assert fault.startswith('error removing network "d": plugin /usr/lib/cni/macvlan failed at DEL')
        daemon = dhcp_daemon(host)
        assert host.teardown() == []
        # With the daemon there, the server is told.
        assert "error" not in host.setup("d", uuid=OTHER)[0]
        assert host.teardown(OTHER) == []
        until(lambda: OTHER.encode().hex(":") not in read(dhcp_server))
    finally:
        end(daemon)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


THIRD_PARTY = r"""#!/usr/bin/python3
import json, os, subprocess, sys
config = json.load(sys.stdin)
command, netns = os.environ["CNI_COMMAND"], os.environ["CNI_NETNS"]
with open(config["log"], "a") as log:
    log.write(json.dumps([command, sorted(k for k in os.environ if k.startswith("CNI_")),
        os.environ["CNI_CONTAINERID"], os.environ["CNI_IFNAME"], os.environ["CNI_ARGS"],
        "prevResult" in config, config.get("runtimeConfig")]) + "\n")
if command == "VERSION":
    print(json.dumps({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}))
    sys.exit()
name = "own" + os.environ["CNI_CONTAINERID"][:8]
if command == "ADD":
    def ip(*words): subprocess.run(["ip", *words], check=True)
    def inside(*words): subprocess.run(["nsenter", "--net=" + netns, "ip", *words], check=True)
    interface = os.environ["CNI_IFNAME"]
    ip("link", "add", name, "type", "veth", "peer", "name", "peer" + name[-6:])
    ip("address", "add", "10.200.0.1/24", "dev", name)
    ip("link", "set", name, "up")
    ip("link", "set", "peer" + name[-6:], "netns", netns)
    inside("link", "set", "peer" + name[-6:], "name", interface)
    inside("address", "add", "10.200.0.2/24", "dev", interface)
    inside("link", "set", interface, "up")
    print(json.dumps({"cniVersion": config["cniVersion"], "interfaces": [{"name": name},
        {"name": interface, "sandbox": netns}], "ips": [{"address": "10.200.0.2/24", "gateway": "10.200.0.1",
        "interface": 1}], "dns": {"nameservers": ["10.200.0.1"], "search": ["own.test"]}}))
elif command == "CHECK":
    if ",UP" not in subprocess.run(["ip", "link", "show", name], capture_output=True, text=True).stdout:
        print(json.dumps({"cniVersion": config["cniVersion"], "code": 100, "msg": name + " is down"}))
        sys.exit(1)
elif command == "DEL":
    subprocess.run(["ip", "link", "delete", name], capture_output=True)
"""


@pytest.fixture
def own(host: Host) -> str:
    """A third party's plugin in net.d; returns where it logs."""
    path = os.path.join(host.config, "net.d", "own-plugin")
    with open(path, "w") as file:
        file.write(THIRD_PARTY)
    os.chmod(path, 0o755)
    log = os.path.join(host.directory, "log")
    value = {"type": "own-plugin", "log": log, "capabilities": {"mac": True, "other": True}}
    host.network("10-own.conf", {"cniVersion": "1.0.0", "name": "own", **value})
    return log


def test_a_third_partys_plugin(host: Host, clean: None, own: str) -> None:
    done, pod = host.start("own:MAC=02:00:00:00:00:01", *serve("pod", 80), ports=[("tcp", "", 8080, 80)])
    try:
        assert pod.stdout is not None
        assert pod.stdout.readline() == "listening\n"
        assert done["networks"][0]["pluginPath"] == f"{host.config}/net.d/own-plugin"
        assert (done["dns"], done["host_ip"]) == (["10.200.0.1"], "10.200.0.1")
        assert host.fetch("10.200.0.2", 80) == "pod 80 10.200.0.1"
        assert host.fetch("127.0.0.1", 8080) == "pod 80 10.200.0.1"
    finally:
        end(pod)
    assert host.check() == []
    host.ok("ip", "link", "set", "own" + UUID[:8], "down")
    (fault,) = host.check()
    assert fault.startswith('error checking network "own": plugin ')
    assert f"own{UUID[:8]} is down" in fault
    assert host.teardown() == []
    with open(own) as file:
        calls = [json.loads(line) for line in file]
    assert [call[0] for call in calls] == ["ADD", "CHECK", "CHECK", "DEL"]
    for call in calls:
        assert call[1:5] == [
            "CNI_ARGS CNI_COMMAND CNI_CONTAINERID CNI_IFNAME CNI_NETNS CNI_PATH CNI_VERSION".split(),
            UUID,
            "eth0",
            "MAC=02:00:00:00:00:01",
        ]
        assert call[6] == {"mac": "02:00:00:00:00:01"}
    assert [call[5] for call in calls] == [False, True, True, True]


def test_debug_checks_what_was_made(host: Host, clean: None, own: str) -> None:
    done, _ = host.setup("own", debug=True)
    assert "error" not in done
    assert "loading network own with type own-plugin" in done["said"]
    with open(own) as file:
        assert [json.loads(line)[0] for line in file] == ["ADD", "CHECK"]
    assert host.teardown() == []


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_the_standard_plugins_check(host: Host, clean: None, version: str) -> None:
    """What only the plugins know: the route, the setting of the link.  Older networks are not asked."""
    ptp = {"type": "ptp", "ipMasq": True, "ipam": ipam("10.77.7.0/24", routes=[{"dst": "0.0.0.0/0"}])}
    host.network("10-c.conflist", conflist("c", ptp, {"type": "tuning", "mtu": 1400}, version=version))
    old = {"cniVersion": "0.3.1", "name": "d", "type": "ptp", "ipam": ipam("10.77.8.0/24")}
    host.network("20-d.conf", old)
    done, inside = host.start("c,d", "cat")
    assert "error" not in done
    assert host.check() == []
    enter = ["nsenter", f"--net={done['netns']}", "ip"]
    for interface in ("eth0", "eth1"):
        host.ok(*enter, "link", "set", interface, "mtu", "1300")
    (fault,) = host.check()
    assert fault.startswith('error checking network "c": plugin /usr/lib/cni/tuning failed at CHECK')
    host.ok(*enter, "link", "set", "eth0", "mtu", "1400")
    assert host.check() == []
    host.ok(*enter, "route", "delete", "default")
    (fault,) = host.check()
    assert fault.startswith('error checking network "c": plugin /usr/lib/cni/ptp failed at CHECK')
    end(inside)
    assert host.teardown() == []


def test_a_list_that_is_not_to_be_checked(host: Host, clean: None) -> None:
    host.plugin("own", f'echo "$CNI_COMMAND" >>{host.directory}/calls; echo \'{{"cniVersion":"1.0.0"}}\'')
    host.network("10-l.conflist", {**conflist("l", {"type": "own"}), "disableCheck": True})
    assert "error" not in host.setup("l", debug=True)[0]
    assert host.check() == []
    assert host.teardown() == []
    with open(f"{host.directory}/calls") as file:
        assert file.read().split() == ["ADD", "DEL"]


# Answers every command with what it was given: its configuration and the version in its environment.
RECORDER = """
cat >>{log}; echo " $CNI_COMMAND $CNI_VERSION" >>{log}
echo '{{"cniVersion":"1.1.0","interfaces":[{{"name":"eth0","sandbox":"'$CNI_NETNS'","mtu":1500}}],
"ips":[{{"address":"10.77.20.2/24","interface":0}}],"routes":[{{"dst":"0.0.0.0/0","mtu":1400,"table":5}}]}}'
"""


def recorded(host: Host) -> list[tuple[dict[str, Any], str, str]]:
    with open(f"{host.directory}/calls") as file:
        lines = [line.rsplit(" ", 2) for line in file.read().splitlines()]
    return [(json.loads(text), command, version) for text, command, version in lines]


def test_version_1_1_0(host: Host, clean: None) -> None:
    """A plugin that knows it gets it and may answer in it; the distribution's say that they do not."""
    host.plugin("newer", RECORDER.format(log=f"{host.directory}/calls"))
    host.network("10-n.conf", {"cniVersion": "1.1.0", "name": "n", "type": "newer"})
    done, _ = host.setup("n")
    assert (done["networks"][0]["ip"], done["networks"][0]["mask"]) == ("10.77.20.2", "255.255.255.0")
    assert host.teardown() == []
    assert [(value["cniVersion"], command, version) for value, command, version in recorded(host)] == [
        ("1.1.0", "ADD", "1.1.0"),
        ("1.1.0", "DEL", "1.1.0"),
    ]
    assert recorded(host)[1][0]["prevResult"]["routes"] == [{"dst": "0.0.0.0/0", "mtu": 1400, "table": 5}]
    host.network(
        "10-n.conf", {"cniVersion": "1.1.0", "name": "n", "type": "ptp", "ipam": ipam("10.77.21.0/24")}
    )
    done, _ = host.setup("n")
    assert done["error"].startswith('error adding network "n": plugin /usr/lib/cni/ptp failed at ADD')
    assert "1.1.0" in done["error"]


def test_a_choice_of_versions(host: Host, clean: None) -> None:
    """``cniVersions``: the latest that rkt knows, which is what plugins are told."""
    host.plugin("own", RECORDER.format(log=f"{host.directory}/calls"))
    choice = ["0.4.0", "2.0.0", "1.1.0", "1.0.0", "0.3.1"]
    host.network("10-n.conf", {"cniVersions": choice, "name": "n", "type": "own"})
    ptp = {"name": "p", "type": "ptp", "ipam": ipam("10.77.21.0/24")}
    host.network("20-p.conf", {"cniVersion": "0.3.0", "cniVersions": ["0.4.0"], **ptp})
    host.network("30-q.conf", {"cniVersions": ["7.0.0"], "name": "q", "type": "own"})
    done, _ = host.setup("n,p")
    assert [network["ip"] for network in done["networks"]] == ["10.77.20.2", "10.77.21.2"]
    assert host.teardown() == []
    (value, _, version) = recorded(host)[0]
    assert (value["cniVersion"], version) == ("1.0.0", "1.0.0")
    assert "cniVersions" not in value
    done, _ = host.setup("q")
    assert "cniVersions: rkt knows none of them" in done["error"]


# As flannel's: takes a subnet from a file that its daemon keeps, and lets another plugin do the rest.
DELEGATING = r"""#!/usr/bin/python3
import ipaddress, json, os, subprocess, sys
config = json.load(sys.stdin)
state = os.path.join(config["stateDir"], os.environ["CNI_CONTAINERID"])
if os.environ["CNI_COMMAND"] == "ADD":
    with open(config["subnetFile"]) as file:
        subnet = dict(line.strip().split("=") for line in file)
    network = str(ipaddress.ip_interface(subnet["FLANNEL_SUBNET"]).network)
    inner = {"type": "bridge", "isGateway": True, **config["delegate"], "name": config["name"],
        "cniVersion": config["cniVersion"], "mtu": int(subnet["FLANNEL_MTU"]),
        "ipam": {"type": "host-local", "ranges": [[{"subnet": network}]],
            "routes": [{"dst": subnet["FLANNEL_NETWORK"]}]}}
    with open(state, "w") as file:
        json.dump(inner, file)
else:
    if not os.path.exists(state):
        sys.exit(0)
    with open(state) as file:
        inner = json.load(file)
for directory in os.environ["CNI_PATH"].split(":"):
    path = os.path.join(directory, inner["type"])
    if os.access(path, os.X_OK):
        done = subprocess.run([path], input=json.dumps(inner), text=True)
        if os.environ["CNI_COMMAND"] == "DEL" and done.returncode == 0:
            os.unlink(state)
        sys.exit(done.returncode)
sys.exit("no plugin " + inner["type"])
"""


def test_a_plugin_that_delegates(host: Host) -> None:
    """The interface of flannel: two pods by one bridge, the rest of its network by a route."""
    path = os.path.join(host.config, "net.d", "delegating")
    with open(path, "w") as file:
        file.write(DELEGATING)
    os.chmod(path, 0o755)
    state = os.path.join(host.directory, "state")
    os.mkdir(state)
    with open(f"{host.directory}/subnet.env", "w") as file:
        file.write("FLANNEL_NETWORK=10.240.0.0/16\nFLANNEL_SUBNET=10.240.7.1/24\nFLANNEL_MTU=1450\n")
    value = {
        "type": "delegating",
        "subnetFile": f"{host.directory}/subnet.env",
        "stateDir": state,
        "delegate": {"bridge": "testbr2"},
    }
    host.network("10-f.conf", {"cniVersion": "0.3.1", "name": "f", **value})
    before = host.state()
    first, server = host.start("f", *serve("first", 80), ports=[("tcp", "", 8080, 80)])
    assert "error" not in first
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    assert first["networks"][0]["ip"] == "10.240.7.2"
    assert host.fetch("127.0.0.1", 8080) == "first 80 10.240.7.1"
    code = (
        "import socket, subprocess\n"
        "print(socket.create_connection(('10.240.7.2', 80), 60).recv(99).decode())\n"
        "print(subprocess.run(['ip', 'route'], capture_output=True, text=True).stdout)\n"
        "print(open('/sys/class/net/eth0/mtu').read())"
    )
    _, inside = host.setup("f", *python(code), uuid=OTHER)
    assert inside.startswith("first 80 10.240.7.3\n")
    assert "10.240.0.0/16 via 10.240.7.1 dev eth0" in inside
    end(server)
    assert host.teardown() == []
    assert host.teardown(OTHER) == []
    assert os.listdir(state) == []
    host.ok("ip", "link", "delete", "testbr2")
    assert host.state() == before


def test_configuration_of_the_user_and_the_system(
    host: Host, clean: None, tmp_path: os.PathLike[str]
) -> None:
    """The user's hides the local one of the same name; a plugin of the user's directory is found again by
    gc, which is not told of it."""
    user, system = (os.path.join(tmp_path, name, "net.d") for name in ("user", "system"))
    for directory, name, subnet in ((user, "n", "10.77.9.0/24"), (system, "s", "10.77.10.0/24")):
        os.makedirs(directory)
        with open(os.path.join(directory, "10-x.conf"), "w") as file:
            json.dump({"name": name, "type": "users" if name == "n" else "ptp", "ipam": ipam(subnet)}, file)
    with open(os.path.join(user, "users"), "w") as file:
        file.write("#!/bin/sh\nexec /usr/lib/cni/ptp\n")
    os.chmod(os.path.join(user, "users"), 0o755)
    host.network("10-n.conf", {"name": "n", "type": "nosuch"})
    options = {"user_config": os.path.dirname(user), "system_config": os.path.dirname(system)}
    done, _ = host.setup("n,s", **options)
    assert [(n["netName"], n["ip"]) for n in done["networks"]] == [("n", "10.77.9.2"), ("s", "10.77.10.2")]
    assert done["networks"][0]["netConf"] != done["networks"][1]["netConf"]  # files of one name
    assert host.teardown() == []
