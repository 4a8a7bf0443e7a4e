"""Beside another engine on the same host: podman with its bridge, its ports and its rules."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from network_host import UUID, Host, serve
from network_site import Site, stage1_host  # noqa: F401

from support import aci
from support.driver import Rkt
from support.waiting import PATIENCE, until

OTHER = "aaaaaaaa-4b5a-4978-8695-a4b3c2d1e0f1"
Podman = Callable[..., str]


@pytest.fixture
def host(tmp_path: os.PathLike[str]) -> Iterator[Host]:
    made = Host(os.fspath(tmp_path))
    # crun 1.8 refuses a host of cgroup version 1 with a tree of version 2 beside it.
    made.run("umount", "/sys/fs/cgroup/unified")
    yield made
    made.close()


@pytest.fixture
def podman(host: Host) -> Iterator[Podman]:
    """podman with an image of its own, ``localhost/box``."""
    base = host.directory
    root = os.path.join(base, "root", "bin")
    os.makedirs(root)
    subprocess.run(["cp", aci.BUSYBOX, f"{root}/busybox"], check=True)
    subprocess.run(["tar", "-C", f"{base}/root", "-cf", f"{base}/root.tar", "."], check=True)
    words = ["podman", f"--root={base}/podman", "--runroot=/run/podman", "--storage-driver=vfs"]

    def call(*arguments: str) -> str:
        return host.ok(*words, "--cgroup-manager=cgroupfs", *arguments)

    call("import", f"{base}/root.tar", "localhost/box")
    yield call
    call("rm", "--force", "--all", "--time=0")
    call("rmi", "--force", "localhost/box")


def publish(podman: Podman, name: str, port: int) -> None:
    """A container whose web server, without any page, is reached by a port of the host."""
    options = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000", f"--publish={port}:80"]
    server = ["/bin/busybox", "httpd", "-f", "-p", "80"]
    podman("run", "--detach", f"--name={name}", *options, "localhost/box", *server)


def fetch(host: Host, port: int) -> str:
    """What the world gets from a port of the host, once anybody answers there."""
    argv = ["curl", "--silent", "--show-error", "--retry", "100", "--retry-connrefused", "--retry-delay", "1"]
    argv += ["--max-time", str(PATIENCE), f"http://203.0.113.2:{port}/page"]
    return subprocess.run(host.world(*argv), capture_output=True, text=True, check=False).stdout


def rules(host: Host, *, of_pods: bool = False) -> list[str]:
    """Rules and chains of the engine, or those of pods, in their order."""
    saved = [line.split(" [")[0] for line in host.ok("iptables-save").splitlines()]
    kept = [line for line in saved if line.startswith(("-A", ":CNI", ":RKT"))]
    return [line for line in kept if ("RKT-" in line) == of_pods]


@pytest.mark.promise("P7")
def test_a_container_and_a_pod_side_by_side(host: Host, podman: Podman) -> None:
    """The port of the container is not taken from it, its rules are as they were, both are reached."""
    publish(podman, "web", 8081)
    assert "404" in fetch(host, 8081)
    before = rules(host)
    done, _ = host.setup("default", ports=[("tcp", "", 8081, 80)])
    assert done["error"] == "port tcp-0.0.0.0:8081 is in use: a program of the host listens on 8081"
    assert rules(host) == before
    done, pod = host.start("default", *serve("pod", 80), ports=[("tcp", "", 8080, 80)], uuid=OTHER)
    assert "error" not in done
    assert pod.stdout is not None
    assert pod.stdout.readline() == "listening\n"
    assert host.fetch("203.0.113.2", 8080, world=True) == "pod 80 203.0.113.1"
    assert "404" in fetch(host, 8081)
    assert rules(host) == before
    pod.kill()
    pod.communicate()
    assert host.teardown(OTHER) == []
    assert host.teardown(UUID) == []
    assert (rules(host), rules(host, of_pods=True)) == (before, [])
    assert "404" in fetch(host, 8081)


@pytest.mark.promise("P7")
def test_a_pod_that_was_there_first(
    host: Host,
    podman: Podman,
    tmp_path: os.PathLike[str],
    stage1_host: str,  # noqa: F811
) -> None:
    """Containers come and go, also one that is given the port of the pod: that stays the pod's while it runs,
    and what the engine has left is not touched when the pod goes."""
    site = Site(host, Rkt(host.directory), stage1_host)
    entries = [aci.directory("srv"), aci.Entry("srv/page", b"from the pod")]
    ports = [{"name": "web", "protocol": "tcp", "port": 8000}]
    app = aci.app("/bin/httpd", "-f", "-p", "8000", "-h", "/srv", ports=ports)
    image = aci.busybox(os.path.join(tmp_path, "server.aci"), entries=entries, app=app)
    pod = site.start("--port=web:8080", image)
    try:
        assert fetch(host, 8080) == "from the pod"
        mine = rules(host, of_pods=True)
        uuid = site("list", "--full", "--no-legend").out.split("\t")[0]
        for port in (8081, 8080):
            publish(podman, f"web{port}", port)
            assert fetch(host, 8080) == "from the pod"
            assert rules(host, of_pods=True) == mine
        assert "404" in fetch(host, 8081)
        podman("rm", "--force", "--time=0", "web8081")
        assert fetch(host, 8080) == "from the pod"
        assert rules(host, of_pods=True) == mine
        assert site("status", "--check-network", uuid).lines[-1] == "network-default=ok"
        theirs = rules(host)
        site("stop", "--force", uuid)
    finally:
        pod.terminate()
        pod.communicate(timeout=PATIENCE)
    site.collect()
    assert (rules(host), rules(host, of_pods=True)) == (theirs, [])
    until(lambda: "404" in fetch(host, 8080))
