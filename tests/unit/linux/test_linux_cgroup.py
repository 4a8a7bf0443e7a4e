from __future__ import annotations

import os

import pytest

from rkt.errors import RktError
from rkt.linux import cgroup, mountinfo, process


def test_own_paths():
    text = "4:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n"
    assert cgroup.parse(text) == {"cpu": "/a", "cpuacct": "/a", "name=systemd": "/b:c", "": "/d"}


V1 = "30 1 0:5 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
SYSTEMD = "31 1 0:6 /pod /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
UNIFIED = "32 1 0:7 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw,nsdelegate\n"
V2 = "32 1 0:7 / /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate\n"
KNOWN = ["cpu", "cpuacct", "name=systemd", ""]


@pytest.mark.parametrize(
    ("table", "mode"), [(V1 + SYSTEMD, "v1"), (V1 + SYSTEMD + UNIFIED, "hybrid"), (V2, "v2"), ("", "v1")]
)
def test_mode(table, mode):
    assert cgroup.mode(cgroup.hierarchies(mountinfo.parse(table), KNOWN)) == mode


def test_directories_of_a_hierarchy():
    cpu, systemd = cgroup.hierarchies(mountinfo.parse(V1 + SYSTEMD), KNOWN)
    assert cpu.controllers == ["cpu", "cpuacct"]
    assert cpu.directory("/a/b") == "/sys/fs/cgroup/cpu,cpuacct/a/b"
    assert cpu.directory("/") == "/sys/fs/cgroup/cpu,cpuacct"
    assert systemd.directory("/pod/x") == "/sys/fs/cgroup/systemd/x"
    for path in ("/other", "/podx"):
        with pytest.raises(RktError, match="not visible"):
            systemd.directory(path)
    for path in ("relative", "/a/../../b", ""):
        with pytest.raises(RktError, match="not the path of a cgroup"):
            cpu.directory(path)


@pytest.mark.promise("P7")
def test_life_of_a_group_in_all_hierarchies():
    path = f"/rkt-test-{os.getpid()}"
    pid = process.spawn(["sleep", "60"], env={})
    try:
        cgroup.create(path + "/inner")
        cgroup.attach(path + "/inner", pid)
        assert cgroup.processes(path) == {pid}
        assert set(cgroup.own(pid).values()) == {path + "/inner"}
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        cgroup.remove(path)
    assert not any(os.path.exists(entry.directory(path)) for entry in cgroup.hierarchies())
    assert cgroup.processes(path) == set()
    cgroup.remove(path)


def test_a_busy_group_is_an_error():
    path = f"/rkt-test-busy-{os.getpid()}"
    pid = process.spawn(["sleep", "60"], env={})
    try:
        cgroup.create(path)
        cgroup.attach(path, pid)
        with pytest.raises(OSError, match="busy"):
            cgroup.remove(path, timeout=0.1)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        cgroup.remove(path)
