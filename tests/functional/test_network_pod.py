"""Networks of whole pods, through the real program on a host of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from network_host import Host, python
from network_site import Site, stage1_host  # noqa: F401

from support import aci
from support.driver import Rkt
from support.waiting import PATIENCE, until

_FETCH_PAGE = """
import urllib.request
print(urllib.request.urlopen("http://203.0.113.2:8080/page", timeout=60).read().decode(), end="")
"""


@pytest.fixture
def site(tmp_path: os.PathLike[str], stage1_host: str) -> Iterator[Site]:  # noqa: F811
    """Every test must leave the host as it was after gc."""
    base = os.fspath(tmp_path)
    host = Host(base)
    made = Site(host, Rkt(base), stage1_host)
    before = host.state()
    try:
        yield made
        made.collect()
        assert host.state() == before
    finally:
        host.close()


def wait_for_networks(site: Site) -> tuple[str, list[dict[str, str]]]:
    pods: list[dict[str, Any]] = []

    def has_networks() -> bool:
        pods[:] = json.loads(site("list", "--format=json").out) or []
        return bool(pods and pods[0].get("networks"))

    until(has_networks)
    return pods[0]["name"], pods[0]["networks"]


@pytest.mark.promise("P7")
def test_default_network_of_a_pod(site: Site, box: str) -> None:
    result = site.run(box, "--exec=/bin/ip", "--", "-4", "address", "show", "eth0")
    assert result.code == 0, result
    assert "172.16.28.2/24" in result.out
    assert "default:ip4=172.16.28.2" in site("list").out
    uuid = site("list", "--full", "--no-legend").out.split("\t")[0]
    assert "networks=default:ip4=172.16.28.2\n" in site("status", uuid).out
    assert site.host.state()["leases"]


@pytest.mark.promise("P7")
def test_whom_the_built_in_networks_reach(site: Site, box: str) -> None:
    """The default one the world, behind the host's address; the restricted one the host only."""

    def ping(net: str, address: str) -> str:
        return site.run(f"--net={net}", box, "--exec=/bin/ping", "--", "-c", "1", address).out

    assert "1 packets received" in ping("default:IP=172.16.28.77", "203.0.113.1")
    assert "default:ip4=172.16.28.77" in site("list").out
    assert "1 packets received" in ping("default-restricted", "172.31.0.1")
    assert "Network is unreachable" in ping("default-restricted", "203.0.113.1")
    result = site.run("--net=none", box, "--exec=/bin/ip", "--", "-o", "link")
    assert ("lo:" in result.out, "eth0" in result.out) == (True, False), result
    assert result.err == "networking: networking namespace with loopback only\n"


@pytest.mark.promise("P7")
def test_forwarded_port_of_a_pod(site: Site, tmp_path: os.PathLike[str]) -> None:
    image = aci.busybox(
        os.path.join(tmp_path, "server.aci"),
        entries=[aci.directory("srv"), aci.Entry("srv/page", b"from the pod")],
        app=aci.app(
            *("/bin/httpd", "-f", "-p", "8000", "-h", "/srv"),
            ports=[{"name": "web", "protocol": "tcp", "port": 8000}],
        ),
    )
    pod = site.start("--port=web:8080", image)
    try:
        uuid, networks = wait_for_networks(site)
        assert networks[0]["ip"] == "172.16.28.2"
        argv = site.host.world(*python(_FETCH_PAGE))
        until(lambda: subprocess.run(argv, capture_output=True, check=False).stdout == b"from the pod")
        other = site.run("--port=web:8080", image)
        assert other.code == 254
        assert f"port tcp-0.0.0.0:8080 already mapped to pod port 8000 of pod {uuid}" in other.err
        site("stop", "--force", uuid)
    finally:
        pod.terminate()
        pod.communicate(timeout=PATIENCE)


@pytest.mark.promise("P7")
@pytest.mark.attack(34)
def test_a_pod_with_ipv6_only_on_a_host_with_ipv6_only(site: Site, tmp_path: os.PathLike[str]) -> None:
    """No address of IPv4 but the loopback's anywhere: reached by its port, and shown as what it is."""
    for end in ([], ["-n", "world"]):
        site.host.ok("ip", *end, "-4", "address", "flush", "dev", "up0")
    site.host.network("10-six.conf", SIX)
    image = aci.busybox(
        os.path.join(tmp_path, "server.aci"),
        entries=[aci.directory("srv"), aci.Entry("srv/page", b"from the pod")],
        app=aci.app(
            *("/bin/httpd", "-f", "-p", "8000", "-h", "/srv"),
            ports=[{"name": "web", "protocol": "tcp", "port": 8000}],
        ),
    )
    pod = site.start("--net=six", "--port=web:8080", image)
    try:
        uuid, networks = wait_for_networks(site)
        assert (networks[0]["ip"], networks[0]["mask"]) == ("", "")
        assert (networks[0]["ip6"], networks[0]["mask6"]) == ("fd00:91::2", "ffff:ffff:ffff:ffff::")
        assert curl(site.host.world, "[2001:db8::2]", "page") == "from the pod"
        assert "\tsix:ip6=fd00:91::2" in site("list", "--full").out
        assert "networks=six:ip6=fd00:91::2\n" in site("status", uuid).out
        assert site("status", "--check-network", uuid).lines[-1] == "network-six=ok"
        (named,) = json.loads(site("status", "--format=json", uuid).out)["networks"]
        assert (named["netName"], named["ip6"]) == ("six", "fd00:91::2")
        site("stop", "--force", uuid)
    finally:
        pod.terminate()
        pod.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("firewall", ["iptables", "nft"])
def test_a_host_without_ipv6(site: Site, box: str, tmp_path: os.PathLike[str], firewall: str) -> None:
    """Switched off by the administrator: networks of IPv4 and their ports are as everywhere."""
    if firewall == "nft":
        site.host.without_iptables()
    for name in ("all", "default"):
        site.host.ok("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
    app = aci.app("/bin/ip", "-4", "address", ports=[{"name": "p", "protocol": "tcp", "port": 80}])
    image = aci.busybox(os.path.join(tmp_path, "ip.aci"), app=app)
    result = site.run("--port=p:8080", image)
    assert (result.code, "172.16.28.2/24" in result.out) == (0, True), result
    assert site.host.ok("ip", "-6", "address", "show", "dev", "up0") == ""


@pytest.mark.parametrize("firewall", ["iptables", "nft"])
def test_the_network_of_a_running_pod_is_checked(
    site: Site, tmp_path: os.PathLike[str], firewall: str
) -> None:
    """By what rkt knows, and by the plugins of a network whose version has CHECK."""
    if firewall == "nft":
        site.host.without_iptables()
    app = aci.app("/bin/sleep", "1000", ports=[{"name": "web", "protocol": "tcp", "port": 8000}])
    image = aci.busybox(os.path.join(tmp_path, "sleep.aci"), app=app)
    site.host.network("10-dual.conf", DUAL)
    pod = site.start("--net=default,dual", "--port=web:8080", image)
    try:
        uuid, _ = wait_for_networks(site)
        done = site("status", "--check-network", uuid)
        assert (done.code, done.err) == (0, ""), done
        assert done.lines[-2:] == ["network-dual=ok", "network-default=ok"]
        with open(os.path.join(site.program.dir, "pods/run", uuid, "netns")) as file:
            enter = ["nsenter", f"--net={file.read()}", "ip"]
        for family in ("-4", "-6"):
            site.host.ok(*enter, family, "route", "delete", "default", "dev", "eth0")
        done = site("status", "--check-network", uuid)
        assert done.code == 254
        assert done.lines[-2:] == ["network-dual=failed", "network-default=ok"]
        assert done.err.startswith(
            'status: error checking network "dual": plugin /usr/lib/cni/ptp failed at CH'
        )
        site.host.ok(*enter, "-6", "address", "flush", "dev", "eth0", "scope", "global")
        done = site("status", "--check-network", "--format=json", uuid)
        assert (done.code, json.loads(done.out)["state"]) == (254, "running")
        assert "interface eth0 of the pod has not the address fd00:90::2" in done.err
        if firewall == "nft":
            site.host.ok("nft", "flush", "chain", "inet", f"rkt-{uuid}", "postrouting")
        else:
            site.host.ok("iptables", "-t", "nat", "-F", "POSTROUTING")
        done = site("status", "--check-network", uuid)
        assert done.lines[-2:] == ["network-dual=failed", "network-default=failed"]
        assert '"default": rules for forwarded ports or masquerading are missing' in done.err
        site("stop", "--force", uuid)
    finally:
        pod.terminate()
        pod.communicate(timeout=PATIENCE)
    done = site("status", "--check-network", uuid)
    assert done.code == 254
    assert f'status: pod "{uuid}" is not running: its network cannot be checked' in done.err


@pytest.mark.promise("P9")
def test_a_network_that_cannot_be_set_up_fails_the_pod(site: Site, box: str) -> None:
    result = site.run("--net=nosuch", box)
    assert result.code == 254
    assert "stage1: failed to setup network: networks not found: nosuch" in result.err


def test_host_network(site: Site, box: str) -> None:
    result = site.run("--net=host", box, "--exec=/bin/ip", "--", "-4", "address")
    assert "203.0.113.2/24" in result.out, result


def image_of(path: str, program: str, name: str, **options: Any) -> str:
    """An image of a program of this machine with the libraries it is linked with."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    entries = list(options.pop("entries", []))
    for file in (program, *libraries):
        with open(file, "rb") as source:
            entries.append(aci.Entry(file.lstrip("/"), source.read(), mode=0o755))
    return aci.busybox(path, name, entries=entries, **options)


NGINX = b"""user root root; daemon off; master_process off; error_log stderr; pid /tmp/pid;
events {}
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
server { listen 8000; listen [::]:8000; location / { return 200 "$remote_addr\\n"; } } }
"""
DUAL = {
    "cniVersion": "1.0.0",
    "name": "dual",
    "type": "ptp",
    "ipMasq": True,
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.90.0.0/24"}], [{"subnet": "fd00:90::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    },
}


SIX = {
    "cniVersion": "1.0.0",
    "name": "six",
    "type": "ptp",
    "ipMasq": True,
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "fd00:91::/64"}]],
        "routes": [{"dst": "::/0"}],
    },
}


@pytest.mark.promise("P7")
@pytest.mark.parametrize("firewall", ["iptables", "nft"])
def test_curl_from_another_host_to_nginx_in_a_pod(
    site: Site, tmp_path: os.PathLike[str], firewall: str
) -> None:
    """The router of this host stands between: both families, and the networks in list, status and enter."""
    image = image_of(
        os.path.join(tmp_path, "nginx.aci"),
        "/usr/sbin/nginx",
        "example.com/nginx",
        entries=[aci.Entry("etc/nginx.conf", NGINX)],
        app=aci.app(
            *("/usr/sbin/nginx", "-c", "/etc/nginx.conf", "-e", "stderr"),
            ports=[{"name": "web", "protocol": "tcp", "port": 8000}],
        ),
    )
    site.host.network("10-dual.conf", DUAL)
    if firewall == "nft":
        site.host.without_iptables()
    pod = site.start("--net=dual", "--port=web:8080", image)
    try:
        uuid, networks = wait_for_networks(site)
        assert (networks[0]["ip"], networks[0]["ip6"]) == ("10.90.0.2", "fd00:90::2")
        for address, client in (("203.0.113.2", "203.0.113.1"), ("[2001:db8::2]", "2001:db8::1")):
            assert curl(site.host.world, address) == client
            assert curl(site.host.command, address) != ""
        assert curl(site.host.command, "127.0.0.1") == "10.90.0.1"
        shown = "dual:ip4=10.90.0.2, dual:ip6=fd00:90::2"
        assert shown in site("list").out
        assert f"networks={shown}\n" in site("status", uuid).out
        site("stop", "--force", uuid)
    finally:
        pod.terminate()
        pod.communicate(timeout=PATIENCE)


def curl(prefix: Callable[..., list[str]], address: str, page: str = "") -> str:
    argv = ["curl", "--silent", "--globoff", "--retry", "100", "--retry-connrefused", "--retry-delay", "1"]
    done = subprocess.run(
        prefix(*argv, "--max-time", "100", f"http://{address}:8080/{page}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )
    return done.stdout.strip()


@pytest.mark.promise("P5")
def test_the_isolator_limits_what_a_pod_sends(site: Site, tmp_path: os.PathLike[str]) -> None:
    """Two apps' limits add up: 1 MB/s and 1.5 MB/s are 20 Mbit/s."""

    def isolators(limit: str) -> list[dict[str, Any]]:
        return [{"name": "resource/network-bandwidth", "value": {"default": True, "limit": limit}}]

    client = image_of(
        os.path.join(tmp_path, "client.aci"),
        "/usr/bin/iperf3",
        "example.com/client",
        app=aci.app(
            *("/usr/bin/iperf3", "-c", "203.0.113.1", "-t", "3", "-O", "1", "-J"), isolators=isolators("1M")
        ),
    )
    other = aci.busybox(
        os.path.join(tmp_path, "other.aci"),
        "example.com/other",
        app=aci.app("/bin/true", isolators=isolators("1500k")),
    )
    server = subprocess.Popen(site.host.world("iperf3", "-s", "-1", "-J"), stdout=subprocess.PIPE, text=True)
    try:
        site.host.wait_until_listening(5201, world=True)
        result = site.run(client, other)
        assert result.code == 0, result
        out, _ = server.communicate(timeout=PATIENCE)
        rate = json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e6
        assert 0 < rate < 24
        assert site.host.limits() == [2_500_000] * 2
    finally:
        server.kill()
        server.communicate()


def test_a_configured_network_called_default_replaces_the_built_in_one(site: Site, box: str) -> None:
    """Also in another kind of file, and for the pod that names no network at all."""
    ipam = {"type": "host-local", "subnet": "10.92.0.0/24"}
    plugins = [{"type": "ptp", "ipam": ipam}, {"type": "tuning", "mtu": 1300}]
    site.host.network("50-mine.conflist", {"cniVersion": "0.4.0", "name": "default", "plugins": plugins})
    for words in ([], ["--net"], ["--net=default"]):
        result = site.run(*words, box, "--exec=/bin/ip", "--", "address", "show", "eth0")
        assert result.code == 0, result
        assert "10.92.0." in result.out
        assert "mtu 1300" in result.out
    result = site.run("--net=all", box, "--exec=/bin/ip", "--", "-4", "address")
    assert ("10.92.0." in result.out, "172.31.0.2/16" in result.out) == (True, True)
    assert "default-restricted:ip4=172.31.0.2" in site("list").out


def test_networks_of_the_user_and_the_system(site: Site, box: str, tmp_path: os.PathLike[str]) -> None:
    """``--user-config`` and ``--system-config`` have networks too; the user's hides the others."""
    user, system = os.path.join(tmp_path, "user"), site.program.system
    for directory, name, subnet in ((user, "n", 1), (system, "n", 2), (system, "s", 3)):
        os.makedirs(os.path.join(directory, "net.d"), exist_ok=True)
        with open(os.path.join(directory, "net.d", f"10-{name}.conf"), "w") as file:
            ipam = {"type": "host-local", "subnet": f"10.91.{subnet}.0/24"}
            json.dump({"cniVersion": "0.4.0", "name": name, "type": "ptp", "ipam": ipam}, file)
    arguments = ["--net=n,s", box, "--exec=/bin/ip", "--", "-4", "address"]
    result = site(f"--user-config={user}", "run", f"--stage1-path={site.stage1}", *arguments)
    assert result.code == 0, result
    assert "10.91.1.2/24" in result.out
    assert "10.91.3.2/24" in result.out
