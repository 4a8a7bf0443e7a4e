"""Beside another engine on the same host: podman with its bridge, its ports and its rules."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from network_host import UUID, Host, serve

from support import aci

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
    call("rm", "--force", "--time=0", "web")
    call("rmi", "--force", "localhost/box")


def fetch(host: Host, port: int) -> str:
    """What the world gets from a port of the host."""
    argv = ["curl", "--silent", "--show-error", "--max-time", "10", f"http://203.0.113.2:{port}/"]
    return subprocess.run(host.world(*argv), capture_output=True, text=True, check=False).stdout


@pytest.mark.promise("P7")
def test_a_container_and_a_pod_side_by_side(host: Host, podman: Podman) -> None:
    """The port of the container is not taken from it, its rules are as they were, both are reached."""
    options = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000", "--publish=8081:80"]
    server = ["/bin/busybox", "httpd", "-f", "-p", "80"]
    podman("run", "--detach", "--name=web", *options, "localhost/box", *server)

    def rules() -> list[str]:
        saved = host.ok("iptables-save").splitlines()
        return [line.split(" [")[0] for line in saved if line.startswith(("-A", ":CNI"))]

    assert "404" in fetch(host, 8081)
    before = rules()
    done, _ = host.setup("default", ports=[("tcp", "", 8081, 80)])
    assert done["error"] == "port tcp-0.0.0.0:8081 is in use: a program of the host listens on 8081"
    assert rules() == before
    done, pod = host.start("default", *serve("pod", 80), ports=[("tcp", "", 8080, 80)], uuid=OTHER)
    assert "error" not in done
    assert pod.stdout is not None
    assert pod.stdout.readline() == "listening\n"
    assert host.fetch("203.0.113.2", 8080, world=True) == "pod 80 203.0.113.1"
    assert "404" in fetch(host, 8081)
    assert [line for line in rules() if "RKT-" not in line] == before
    pod.kill()
    pod.communicate()
    assert host.teardown(OTHER) == []
    assert host.teardown(UUID) == []
    assert rules() == before
    assert "404" in fetch(host, 8081)
