"""The real program on a host with systemd and on one with cgroup v2: codes, states, nothing left behind."""

from __future__ import annotations

import os

import pytest
from host_pods import Pod, assert_as_before, rkt, run_words, snapshot, until

from support import driver, hosts

FLY = os.path.join(driver.STAGE1, "stage1-fly.aci")


def test_version_says_the_same_as_here(host: hosts.Host, rkt: driver.Rkt) -> None:
    assert host.ok([hosts.RKT, "version"]).out == rkt.ok("version").out


@pytest.mark.promise("P7", "P9")
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
    assert_as_before(host, before)
    assert host.ok(["find", "/var/lib/rkt/pods", "-mindepth", "2"]).out == ""


@pytest.mark.promise("P5", "P8")
def test_a_pod_has_user_ids_of_its_own(systemd_host: hosts.Host, systemd_image: str) -> None:
    """Processes by their maps, files of the image and volumes by their owners, a command entered beside."""
    host = systemd_host
    # Where the host's file system cannot be mounted with its owners, the pod is nobody there.
    host.ok(["mkdir", "-p", "-m", "1777", "/var/lib/users"])
    volume = ["--volume=sign,kind=host,source=/var/lib/users", "--mount=volume=sign,target=/sign"]
    script = "cat /proc/1/uid_map; stat -c %u:%g /bin/busybox /sign; touch /sign/started; sleep 1000"
    pod = Pod(host, "users").start(systemd_image, script, "--private-users", *volume)
    entered = rkt(host, "enter", pod.uuid, "/bin/cat", "/proc/self/uid_map")
    inside, first, count = (int(word) for word in entered.out.split())
    assert (inside, first % 65536, count) == (0, 0, 65536)
    pid = pod.status()["pid"]
    (child,) = host.read(f"/proc/{pid}/task/{pid}/children").decode().split()
    assert host.ok(["stat", "-c", "%u", f"/proc/{child}"]).out == f"{first}\n"
    until(
        "the app has not been started", lambda: host.run(["test", "-e", "/var/lib/users/started"]).code == 0
    )
    result = pod.stop("--force")
    owner = host.ok(["stat", "-c", "%u", "/var/lib/users/started"]).out.strip()
    mapped = "cannot be mounted with the owners of the host" not in result.err
    assert owner == ("0" if mapped else str(first))
    assert [line.split("]: ")[-1].split() for line in result.out.splitlines()] == [
        ["0", str(first), "65536"],
        ["0:0"],
        ["0:0" if mapped else "65534:65534"],
    ]
