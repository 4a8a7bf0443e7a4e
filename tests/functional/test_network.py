"""The network of a pod on real kernel namespaces with the real CNI plugins."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from network_host import FETCH, UUID, Host, python, serve

from support.processes import is_left, own_sleep
from support.waiting import until

OTHER = "aaaaaaaa-4b5a-4978-8695-a4b3c2d1e0f1"


@pytest.fixture
def host(tmp_path: os.PathLike[str]) -> Iterator[Host]:
    made = Host(os.fspath(tmp_path))
    yield made
    made.close()


@pytest.fixture
def clean(host: Host) -> Iterator[None]:
    """Fails a test whose pod leaves something on the host."""
    before = host.state()
    yield
    assert host.state() == before


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


@pytest.mark.promise("P7")
def test_default_network(host: Host, clean: None) -> None:
    done, inside = host.setup("default", "ip", "-j", "address")
    assert done["moved"]
    assert done["host_ip"] == "172.16.28.1"
    links = {link["ifname"]: link for link in json.loads(inside)}
    assert set(links) == {"lo", "eth0"}
    assert "UP" in links["lo"]["flags"]
    address = links["eth0"]["addr_info"][0]
    assert (address["local"], address["prefixlen"]) == ("172.16.28.2", 24)
    pod = host.pod()
    assert read(f"{pod}/net-info.json") == (
        '[{"netName":"default","netConf":"net/99-default.conf","pluginPath":"/usr/lib/cni/ptp",'
        '"ifName":"eth0","ip":"172.16.28.2","args":"","mask":"255.255.255.0"}]\n'
    )
    assert json.loads(read(f"{pod}/net/99-default.conf"))["ipam"]["subnet"] == "172.16.28.0/24"
    netns = read(f"{pod}/netns")
    assert netns == done["netns"]
    assert netns.startswith("/var/run/netns/cni-")
    assert os.path.basename(netns) in host.ok("ip", "netns", "list")
    assert host.teardown() == []


def test_masqueraded_traffic_reaches_the_world(host: Host, clean: None) -> None:
    server = subprocess.Popen(host.world(*serve("world", 7)), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        _, inside = host.setup("default", *python(FETCH.format(address="203.0.113.1", port=7)))
        assert inside == "world 7 203.0.113.2\n"
        host.teardown()
        # Restricted to the host: no route out, but to the host's end.
        done, inside = host.setup("default-restricted", "ip", "-j", "route")
        assert [route["dst"] for route in json.loads(inside) if route["dst"] == "default"] == []
        assert done["networks"][0]["ip"] == "172.31.0.2"
        assert done["networks"][0]["mask"] == "255.255.0.0"
        host.teardown()
    finally:
        server.kill()
        server.communicate()


def test_none_is_loopback_only(host: Host, clean: None) -> None:
    done, inside = host.setup("none", "ip", "-j", "address")
    (link,) = json.loads(inside)
    assert link["ifname"] == "lo"
    assert {a["local"] for a in link["addr_info"]} == {"127.0.0.1", "::1"}
    assert done["said"] == ["networking namespace with loopback only"]
    assert done["networks"] == []
    assert read(f"{host.pod()}/net-info.json") == "[]\n"
    assert host.teardown() == []


def test_host_network_creates_nothing(host: Host, clean: None) -> None:
    done, _ = host.setup("host,default")
    assert not done["moved"]
    assert done["netns"] == ""
    assert os.listdir(host.pod()) == []


def test_arguments_reach_the_address_management(host: Host, clean: None) -> None:
    done, _ = host.setup("default:IP=172.16.28.77")
    assert done["networks"][0]["ip"] == "172.16.28.77"
    assert done["networks"][0]["args"] == "IP=172.16.28.77"
    failed, _ = host.setup("default:IP=172.16.28.77", uuid=OTHER)
    assert 'requested IP address "172.16.28.77" is not available in network: default' in failed["error"]
    assert 'error adding network "default"' in failed["error"]
    assert failed["same"]
    assert host.teardown() == []


@pytest.mark.parametrize("version", ["", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_versions_of_the_specification(host: Host, clean: None, version: str) -> None:
    value = {"name": "n", "type": "ptp", "ipam": {"type": "host-local", "subnet": "10.77.0.0/20"}}
    host.network("10-n.conf", {**value, "cniVersion": version} if version else value)
    done, _ = host.setup("n")
    assert (done["networks"][0]["ip"], done["networks"][0]["mask"]) == ("10.77.0.2", "255.255.240.0")
    assert host.teardown() == []


def test_a_list_of_plugins_and_several_networks(host: Host, clean: None) -> None:
    host.network(
        "10-bridge.conflist",
        {
            "cniVersion": "0.4.0",
            "name": "bridged",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "testbr0",
                    "isGateway": True,
                    "ipMasq": True,
                    "ipam": {"type": "host-local", "subnet": "10.78.0.0/24"},
                },
                {"type": "tuning", "sysctl": {"net.ipv4.conf.all.log_martians": "1"}},
                {"type": "bandwidth", "ingressRate": 8000000, "ingressBurst": 8000000},
            ],
        },
    )
    done, inside = host.setup("default,bridged", "cat", "/proc/sys/net/ipv4/conf/all/log_martians")
    assert [(n["netName"], n["ifName"], n["ip"]) for n in done["networks"]] == [
        ("bridged", "eth0", "10.78.0.2"),
        ("default", "eth1", "172.16.28.2"),
    ]
    assert inside == "1\n"
    assert host.teardown() == []
    host.ok("ip", "link", "delete", "testbr0")  # a bridge belongs to the host, as with every CNI runtime


def test_names_of_networks_and_files_are_kept(host: Host, clean: None) -> None:
    name = "a-very-long-network-name-that-no-interface-could-have.example"
    value = {"name": name, "type": "ptp", "ipam": {"type": "host-local", "subnet": "10.79.0.0/24"}}
    host.network("77-some file.conf", value)
    done, _ = host.setup(name)
    assert (done["networks"][0]["netName"], done["networks"][0]["netConf"]) == (
        name,
        "net/77-some file.conf",
    )
    assert host.teardown() == []


def test_name_servers_of_a_network(host: Host, clean: None) -> None:
    host.plugin("named", 'echo \'{"cniVersion":"0.3.1","ips":[],"dns":{"nameservers":["10.0.0.53"]}}\'')
    host.network("10-named.conf", {"name": "named", "type": "named"})
    done, _ = host.setup("named,default")
    assert done["dns"] == ["10.0.0.53"]
    assert host.teardown() == []


FAULTS = {
    "exits": "cat >/dev/null; echo broken >&2; exit 1",
    "garbage": "cat >/dev/null; echo garbage",
    "crashes": "kill -SEGV $$",
    "hangs": "sleep 1000",
    "nonsense": 'cat >/dev/null; echo \'{"ip4":{"ip":"here/there"}}\'',
}


@pytest.mark.promise("P7")
@pytest.mark.promise("P9")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_plugin_leaves_nothing(host: Host, clean: None, fault: str) -> None:
    host.plugin("bad", f'[ "$CNI_COMMAND" = ADD ] || exit 0\n{FAULTS[fault]}')
    host.network("98-bad.conf", {"name": "bad", "type": "bad"})
    host.network("10-n.conf", {"name": "n", "type": "ptp", "ipam": default_ipam()})
    done, _ = host.setup("n,bad", limit=6 if fault == "hangs" else 60)
    assert 'error adding network "bad"' in done["error"]
    assert f"{host.config}/net.d/bad" in done["error"]
    assert done["same"]
    assert done["said"] == []


def default_ipam() -> dict[str, str]:
    return {"type": "host-local", "subnet": "10.80.0.0/24"}


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("nosuch", "networks not found: nosuch"),
        ("missing", 'error adding network "missing": could not find plugin "nosuchplugin" in '),
    ],
)
def test_what_is_missing_is_named_before_anything_is_made(
    host: Host, clean: None, net: str, message: str
) -> None:
    host.network("10-missing.conf", {"name": "missing", "type": "nosuchplugin"})
    done, _ = host.setup(net)
    assert done["error"].startswith(message)
    assert os.listdir(host.pod()) == []


@pytest.mark.promise("P7")
def test_teardown_may_be_repeated(host: Host, clean: None) -> None:
    host.setup("default", ports=[("tcp", "", 8080, 80)])
    assert host.teardown() == []
    assert host.teardown() == []
    host.pod(OTHER)
    assert host.teardown(OTHER) == []  # never had a network


@pytest.mark.promise("P7")
def test_a_failing_del_is_reported_the_rest_removed_and_tried_again(host: Host, clean: None) -> None:
    host.plugin(
        "sticky",
        f'echo "$CNI_COMMAND $CNI_IFNAME" >>{host.directory}/calls\n'
        f'[ "$CNI_COMMAND" = DEL ] && [ ! -e {host.directory}/mended ] && {{ echo stuck >&2; exit 1; }}\n'
        "echo '{}'",
    )
    host.network("10-sticky.conf", {"name": "sticky", "type": "sticky"})
    host.setup("default,sticky", ports=[("tcp", "", 8080, 80)])
    (fault,) = host.teardown()
    assert fault.startswith('error removing network "sticky": plugin ')
    assert fault.endswith("stuck")
    assert host.state()["leases"] == []
    assert host.state()["namespaces"] == ["world"]
    (again,) = host.teardown()
    assert again == fault
    with open(f"{host.directory}/mended", "w"):
        pass
    assert host.teardown() == []
    assert read(f"{host.directory}/calls") == "ADD eth0\nDEL eth0\nDEL eth0\nDEL eth0\n"


def test_del_goes_in_reverse_order_with_the_result(host: Host, clean: None) -> None:
    answer = '{"cniVersion":"0.4.0","ips":[{"address":"10.9.0.2/24"}]}'
    log = f"{host.directory}/calls"
    host.plugin("one", f"conf=$(cat); echo \"one $CNI_COMMAND $conf\" >>{log}; echo '{answer}'")
    host.plugin("two", f"conf=$(cat); echo \"two $CNI_COMMAND $conf\" >>{log}; echo '{answer}'")
    plugins = [{"type": "one"}, {"type": "two"}]
    host.network("10-l.conflist", {"cniVersion": "0.4.0", "name": "l", "plugins": plugins})
    host.setup("l")
    assert host.teardown() == []
    calls = [line.split(" ", 2) for line in read(log).splitlines()]
    assert [(name, command) for name, command, _ in calls] == [
        ("one", "ADD"),
        ("two", "ADD"),
        ("two", "DEL"),
        ("one", "DEL"),
    ]
    assert "prevResult" not in json.loads(calls[0][2])
    assert all(json.loads(call[2])["prevResult"]["ips"] for call in calls[1:])


@pytest.mark.promise("P7")
@pytest.mark.parametrize("before", [False, True])
def test_killed_in_the_middle_of_add(host: Host, clean: None, before: bool) -> None:
    """The attempt is on record before the plugin runs: what it did is undone although nobody saw it end, and
    what it was about to do is not done afterwards."""
    ipam = {"type": "host-local", "subnet": "10.81.0.0/24"}
    inner = json.dumps({"cniVersion": "0.3.1", "name": "slow", "type": "ptp", "ipMasq": True, "ipam": ipam})
    sleep = own_sleep()
    wait = f"touch {host.directory}/running; setsid {sleep}"
    add = f"echo '{inner}' | /usr/lib/cni/ptp || exit 1"
    steps = [wait, add] if before else [add, wait]
    host.plugin("slow", '[ "$CNI_COMMAND" = ADD ] || exec /usr/lib/cni/ptp\n' + "\n".join(steps))
    host.network("10-slow.conf", json.loads(inner) | {"type": "slow"})
    process = subprocess.Popen(host.setup_argv("slow"), stdout=subprocess.PIPE, text=True)
    until(lambda: os.path.exists(f"{host.directory}/running"))
    process.kill()
    process.communicate()
    assert bool(host.state()["leases"]) != before
    assert not os.path.exists(f"{host.pod()}/net-info.json")
    assert host.teardown() == []
    assert not is_left(sleep)


@pytest.mark.promise("P7")
def test_after_a_reboot(host: Host, clean: None) -> None:
    """/run is empty, interfaces and rules are gone, leases are still there."""
    done, _ = host.setup("default", ports=[("tcp", "", 8080, 80)])
    host.ok("umount", done["netns"])
    host.ok("rm", done["netns"])
    host.ok("iptables", "-t", "nat", "-F")
    host.ok("iptables", "-t", "nat", "-X")
    host.ok("rm", "-r", "/run/rkt")
    assert host.state()["leases"]
    assert host.teardown() == []


_BRIDGE = {"type": "bridge", "bridge": "testbr0", "isGateway": True, "ipMasq": True}
_RATES = {"ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}
_AFTER = {
    "bridge": [_BRIDGE],
    "macvlan": [{"type": "macvlan", "master": "up0"}],
    "tuning": [{"type": "ptp"}, {"type": "tuning", "mtu": 1400, "mac": "02:00:00:00:00:17"}],
    "bandwidth": [{"type": "ptp"}, {"type": "bandwidth", **_RATES}],
    "firewall": [_BRIDGE, {"type": "firewall"}],
    "portmap": [{"type": "ptp"}, {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}],
    "sbr": [{"type": "ptp"}, {"type": "sbr"}],
}


@pytest.mark.promise("P7")
@pytest.mark.parametrize("kind", _AFTER)
def test_each_plugin_after_a_reboot(host: Host, clean: None, kind: str) -> None:
    """Some cannot take back what was in a namespace that is gone: with it went all that they had made."""
    plugins = [{**_AFTER[kind][0], "ipam": default_ipam()}, *_AFTER[kind][1:]]
    host.network("10-n.conflist", {"cniVersion": "1.0.0", "name": "n", "plugins": plugins})
    before = host.state()["links"]
    done, _ = host.setup("n", ports=[("tcp", "", 8080, 80)] if kind == "portmap" else [])
    assert "error" not in done
    host.ok("umount", done["netns"])
    host.ok("rm", done["netns"])
    for link in set(host.state()["links"]) - set(before):
        host.run("ip", "link", "delete", link)
    for table in ("nat", "filter", "raw"):
        host.ok("iptables", "-t", table, "-F")
        host.ok("iptables", "-t", table, "-X")
    host.run("rm", "-r", "/run/rkt")
    assert host.state()["leases"]
    assert host.teardown() == []


@pytest.mark.promise("P7")
def test_after_a_reboot_without_iptables(host: Host, clean: None) -> None:
    """Uninstalled meanwhile: what it has made is gone with the last start of the machine, or still there."""
    host.setup("default", ports=[("tcp", "", 8080, 80)])
    for table in ("nat", "raw"):
        host.ok("iptables", "-t", table, "-F")
        host.ok("iptables", "-t", table, "-X")
    host.without_iptables()
    (fault,) = host.teardown()
    assert fault.startswith("error removing forwarded ports and masquerading: ")
    assert fault.endswith("iptables not found")
    path = f"{host.pod()}/net/record.json"
    record = json.loads(read(path))
    assert record["boot"] == read("/proc/sys/kernel/random/boot_id").strip()
    with open(path, "w") as file:
        json.dump(record | {"boot": "00000000-0000-0000-0000-000000000000"}, file)
    assert host.teardown() == []


@pytest.mark.promise("P7")
def test_namespace_taken_away_without_a_reboot(host: Host, clean: None) -> None:
    """Rules of a plugin that finds them only through the namespace go too; those of others stay."""
    host.plugin("wrapped", "exec /usr/lib/cni/ptp")
    host.network("10-w.conf", {"name": "w", "type": "wrapped", "ipMasq": True, "ipam": default_ipam()})
    done, _ = host.setup("w")
    host.setup("w", uuid=OTHER)
    host.ok("umount", done["netns"])
    host.ok("rm", done["netns"])
    assert host.teardown() == []
    assert UUID not in host.ok("iptables", "-t", "nat", "-S")
    assert OTHER in host.ok("iptables", "-t", "nat", "-S")
    assert host.teardown(OTHER) == []


def test_a_pod_of_rkt_1_30_is_torn_down(host: Host, clean: None) -> None:
    """No record of ours: net-info.json and the rules say what there is to undo."""
    host.setup("default", ports=[("tcp", "", 8080, 80)])
    os.unlink(f"{host.pod()}/net/record.json")
    comment = ["-m", "comment", "--comment", f'name: "default" id: "{UUID}"']
    nat = ["iptables", "-t", "nat"]
    host.ok(*nat, "-N", "CNI-0123456789abcdef01234567")
    host.ok(*nat, "-A", "CNI-0123456789abcdef01234567", *comment, "-j", "MASQUERADE")
    host.ok(*nat, "-A", "POSTROUTING", *comment, "-j", "CNI-0123456789abcdef01234567")
    assert host.teardown() == []


@pytest.mark.promise("P4")
@pytest.mark.parametrize("path", ["/etc/passwd", "/var/run/netns/../../etc", "/var/run/netns/cni-", "cni-x"])
def test_a_foreign_path_in_the_pod_is_not_unmounted(host: Host, clean: None, path: str) -> None:
    with open(f"{host.pod()}/netns", "w") as file:
        file.write(path)
    (fault,) = host.teardown()
    assert fault == f'"{path}" is not the path of a pod\'s network namespace'
    assert os.path.exists("/etc/passwd")


def test_many_pods_at_once_get_addresses_of_their_own(host: Host, clean: None) -> None:
    uuids = [f"{number:08x}-4b5a-4978-8695-a4b3c2d1e0f1" for number in range(4)]
    started = [host.start("default", "cat", uuid=uuid) for uuid in uuids]
    addresses: list[Any] = [done["networks"][0]["ip"] for done, _ in started]
    for _, process in started:
        process.kill()
        process.communicate()
    assert len(set(addresses)) == len(uuids)
    for uuid in uuids:
        assert host.teardown(uuid) == []


def test_the_directory_of_namespaces_is_one_shared_mount(host: Host) -> None:
    host.ok("umount", "-R", "/run/netns")
    host.ok("ip", "netns", "delete", "world")
    started = [host.start("none", "cat", uuid=uuid) for uuid in (UUID, OTHER)]
    mounts = host.ok("cat", "/proc/self/mountinfo").splitlines()
    (line,) = [line for line in mounts if line.split()[4] == "/run/netns"]
    assert "shared:" in line
    for _, process in started:
        process.kill()
        process.communicate()
    assert host.teardown() == []
    assert host.teardown(OTHER) == []
    assert host.state()["namespaces"] == []
