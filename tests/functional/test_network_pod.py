"""Networks of whole pods, through the real program on a host of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from network_host import Host, python
from network_site import Site, stage1_host  # noqa: F401

from support import aci
from support.driver import Rkt

_FETCH_PAGE = """
import urllib.request
print(urllib.request.urlopen("http://203.0.113.2:8080/page", timeout=5).read().decode(), end="")
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
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = site("list", "--format=json")
        pods = json.loads(listed.out) if listed.out.strip() else []
        if pods and pods[0].get("networks"):
            return pods[0]["name"], pods[0]["networks"]
        time.sleep(0.05)
    raise AssertionError("the pod has no network")


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
        fetch = python(_FETCH_PAGE)
        deadline = time.monotonic() + 30
        answer = ""
        while "from the pod" not in answer and time.monotonic() < deadline:
            done = subprocess.run(
                site.host.world(*fetch), capture_output=True, text=True, check=False, timeout=30
            )
            answer = done.stdout
        assert answer == "from the pod"
        other = site.run("--port=web:8080", image)
        assert other.code == 254
        assert f"port tcp-0.0.0.0:8080 already mapped to pod port 8000 of pod {uuid}" in other.err
        site("stop", "--force", uuid)
    finally:
        pod.terminate()
        pod.communicate(timeout=30)


@pytest.mark.promise("P9")
def test_a_network_that_cannot_be_set_up_fails_the_pod(site: Site, box: str) -> None:
    result = site.run("--net=nosuch", box)
    assert result.code == 254
    assert "stage1: failed to setup network: networks not found: nosuch" in result.err


def test_host_network(site: Site, box: str) -> None:
    result = site.run("--net=host", box, "--exec=/bin/ip", "--", "-4", "address")
    assert "203.0.113.2/24" in result.out, result
