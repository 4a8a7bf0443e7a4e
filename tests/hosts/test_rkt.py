"""The real program on a host with systemd and on one with cgroup v2: codes, states, nothing left behind."""

from __future__ import annotations

import json
import os
import time

import pytest

from support import aci, driver, hosts

FLY = os.path.join(driver.STAGE1, "stage1-fly.aci")
# Everything costs twenty times as much under emulation.
SECONDS = 240
SNAPSHOT = f"""
import json, os, sys
sys.path.insert(0, {os.path.join(driver.ROOT, "tests")!r})
from support import machine
taken = machine.Snapshot()
print(json.dumps({{kind: sorted(getattr(taken, kind)) for kind in taken.__slots__}}))
"""


def rkt(host: hosts.Host, *words: str) -> driver.Result:
    return host.run([hosts.RKT, *words], SECONDS)


def snapshot(host: hosts.Host) -> dict[str, list[str]]:
    """What a pod could leave on the host, and the mounts that it could cover."""
    taken: dict[str, list[str]] = json.loads(host.ok(["/usr/bin/python3", "-BIS", "-c", SNAPSHOT]).out)
    return taken


def run_words(image: str, script: str, *options: str) -> list[str]:
    return ["--insecure-options=image", "run", *options, image, "--exec=/bin/sh", "--", "-c", script]


def started(host: hosts.Host, name: str) -> list[str]:
    """Options of ``run`` for a pod without network that ``wait_until_started`` can find by ``name``."""
    directory = f"/var/lib/{name}"
    host.ok(["mkdir", "-p", directory])
    return [
        "--net=none",
        f"--uuid-file-save={directory}/uuid",
        f"--volume=sign,kind=host,source={directory}",
        "--mount=volume=sign,target=/sign",
    ]


def wait_until_started(host: hosts.Host, name: str) -> str:
    """The identifier of the pod, once its app has made the file /sign/started."""
    deadline = time.monotonic() + SECONDS
    while host.run(["test", "-e", f"/var/lib/{name}/started"]).code:
        assert time.monotonic() < deadline, rkt(host, "list", "--full")
        time.sleep(0.1)
    return host.read(f"/var/lib/{name}/uuid").decode().strip()


@pytest.fixture(scope="module")
def image(host: hosts.Host, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a busybox image in the host."""
    assert os.path.exists(FLY), "no stage1 images: make stage1"
    path = aci.busybox(os.fspath(tmp_path_factory.mktemp("images") / "box.aci"))
    return host.put(path, "/var/lib/images/box.aci")


def test_version_says_the_same_as_here(host: hosts.Host, rkt: driver.Rkt) -> None:
    assert host.ok([hosts.RKT, "version"]).out == rkt.ok("version").out


@pytest.mark.promise("P7")
@pytest.mark.promise("P9")
def test_pods_of_both_flavors_end_with_their_codes_and_gc_removes_them(host: hosts.Host, image: str) -> None:
    before = snapshot(host)
    done = rkt(host, *run_words(image, "echo from the pod; exit 7"))
    assert done.code == 7, done
    assert "from the pod" in done.out
    on_fly = rkt(host, *run_words(image, "echo from the app; exit 5", f"--stage1-path={FLY}"))
    assert (on_fly.code, on_fly.out) == (5, "from the app\n"), on_fly

    listed = rkt(host, "list", "--full", "--no-legend")
    assert len(listed.lines) == 2, listed
    codes = set()
    for line in listed.lines:
        fields = line.split("\t")
        assert "exited" in fields, listed
        status = rkt(host, "status", fields[0])
        codes |= {word for word in status.lines if word.startswith("app-")}
    assert codes == {"app-box=7", "app-box=5"}

    for _ in range(2):
        done = rkt(host, "gc", "--grace-period=0s")
        assert done.code == 0, done
    assert rkt(host, "list", "--no-legend").out.strip() == ""
    assert snapshot(host) == before
    assert host.ok(["find", "/var/lib/rkt/pods", "-mindepth", "2"]).out == ""


def test_a_running_pod_is_a_machine_and_ends_with_stop(host: hosts.Host, image: str) -> None:
    script = "trap 'exit 0' TERM; touch /sign/started; while :; do sleep 1; done"
    running = host.spawn([hosts.RKT, *run_words(image, script, *started(host, "stopped"))])
    uuid = wait_until_started(host, "stopped")
    machines = host.ok(["machinectl", "list", "--no-legend"]).out
    assert f"rkt-{uuid}" in machines
    entered = rkt(host, "enter", uuid, "/bin/busybox", "hostname")
    assert entered.out == f"rkt-{uuid}\n", entered
    stopped = rkt(host, "stop", uuid)
    assert stopped.code == 0, stopped
    running.wait(SECONDS)
    assert f"rkt-{uuid}" not in host.ok(["machinectl", "list", "--no-legend"]).out
    removed = rkt(host, "rm", uuid)
    assert removed.code == 0, removed


@pytest.mark.promise("P5", "P8")
def test_a_pod_has_user_ids_of_its_own(host: hosts.Host, image: str) -> None:
    """Processes by their maps, files of the image and volumes by their owners, a command entered beside."""
    words = started(host, "users")
    # Where the host's file system cannot be mounted with its owners, the pod is nobody there.
    host.ok(["chmod", "1777", "/var/lib/users"])
    script = "cat /proc/1/uid_map; stat -c %u:%g /bin/busybox /sign; touch /sign/started; sleep 1000"
    running = host.spawn([hosts.RKT, *run_words(image, script, "--private-users", *words)])
    uuid = wait_until_started(host, "users")
    entered = rkt(host, "enter", uuid, "/bin/cat", "/proc/self/uid_map")
    inside, first, count = (int(word) for word in entered.out.split())
    assert (inside, first % 65536, count) == (0, 0, 65536)
    pid = rkt(host, "status", uuid).out.partition("\npid=")[2].split()[0]
    (child,) = host.read(f"/proc/{pid}/task/{pid}/children").decode().split()
    assert host.ok(["stat", "-c", "%u", f"/proc/{child}"]).out == f"{first}\n"
    assert rkt(host, "stop", "--force", uuid).code == 0
    result = running.wait(SECONDS)
    owner = host.ok(["stat", "-c", "%u", "/var/lib/users/started"]).out.strip()
    mapped = "cannot be mounted with the owners of the host" not in result.err
    assert owner == ("0" if mapped else str(first))
    assert [line.split("]: ")[-1].split() for line in result.out.splitlines()] == [
        ["0", str(first), "65536"],
        ["0:0"],
        ["0:0" if mapped else "65534:65534"],
    ]
    assert rkt(host, "rm", uuid).code == 0


def test_a_service_runs_a_pod_and_stops_it(systemd_host: hosts.Host, tmp_path: os.PathLike[str]) -> None:
    """The unit is the pod's owner: its status is the pod's, and no process of the pod outlives it."""
    host = systemd_host
    path = aci.busybox(os.path.join(tmp_path, "box.aci"))
    image = host.put(path, "/var/lib/images/service.aci")
    before = snapshot(host)
    options = ["--unit=pod", "--quiet", "--property=KillMode=mixed"]
    done = host.run(
        ["systemd-run", "--wait", "--pipe", *options, hosts.RKT, *run_words(image, "exit 9", "--net=none")],
        SECONDS,
    )
    assert done.code == 9, done
    # A failed unit keeps its name until it is reset.
    host.run(["systemctl", "reset-failed", "pod"])

    script = "touch /sign/started; while :; do sleep 1; done"
    words = run_words(image, script, *started(host, "service"))
    host.ok(["systemd-run", *options, hosts.RKT, *words])
    uuid = wait_until_started(host, "service")
    group = host.ok(["systemctl", "show", "--property=ControlGroup", "--value", "pod"]).out.strip()
    assert group == "/system.slice/pod.service"
    pid = rkt(host, "status", uuid).out.partition("\npid=")[2].split()[0]
    assert group in host.read(f"/proc/{pid}/cgroup").decode()
    host.ok(["systemctl", "stop", "pod"], SECONDS)
    assert host.run(["test", "-e", f"/proc/{pid}"]).code == 1
    assert "state=exited" in rkt(host, "status", uuid).out

    for _ in range(2):
        assert rkt(host, "gc", "--grace-period=0s").code == 0
    assert snapshot(host) == before
