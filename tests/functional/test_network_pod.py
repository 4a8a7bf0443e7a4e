"""Networks of whole pods, through the real program on a host of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from network_host import Host, python

from support import aci, driver
from support.driver import Result, Rkt

_FETCH_PAGE = """
import urllib.request
print(urllib.request.urlopen("http://203.0.113.2:8080/page", timeout=5).read().decode(), end="")
"""


@pytest.fixture(scope="module")
def stage1_host(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The default stage1 image of the code under test."""
    path = os.path.join(tmp_path_factory.mktemp("stage1"), "stage1-host.aci")
    subprocess.run(
        [sys.executable, "-m", "rkt.stage1.build", "--flavor=host", f"--output={path}"],
        env={**os.environ, "PYTHONPATH": os.path.join(driver.ROOT, "src")},
        check=True,
    )
    return path


class Site:
    """A host and rkt on it."""

    def __init__(self, host: Host, program: Rkt, stage1: str) -> None:
        self.host, self.program, self.stage1 = host, program, stage1

    def __call__(self, *words: str) -> Result:
        words_ = self.program.argv("--insecure-options=image", *words)
        done = self.host.run(*words_, env=self.program.environment)
        return Result(words_, done.returncode, done.stdout, done.stderr)

    def run(self, *words: str) -> Result:
        return self("run", f"--stage1-path={self.stage1}", *words)

    def start(self, *words: str) -> subprocess.Popen[str]:
        words_ = self.program.argv("--insecure-options=image", "run", f"--stage1-path={self.stage1}", *words)
        return subprocess.Popen(
            self.host.command(*words_),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.program.environment,
        )

    def collect(self) -> None:
        for _ in range(2):
            done = self("gc", "--grace-period=0s", "--expire-prepared=0s")
            assert done.code == 0, done


@pytest.fixture
def site(tmp_path: os.PathLike[str], stage1_host: str) -> Iterator[Site]:
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
