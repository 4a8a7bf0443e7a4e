"""Disks behind files, AppArmor and SELinux of a host: read from files that look like the kernel's."""

from __future__ import annotations

import os

import pytest

from rkt.linux import apparmor, block, selinux

TREE = {
    "devices/pci/sda/dev": "8:0\n",
    "devices/pci/sda/sda3/dev": "8:3\n",
    "devices/pci/sda/sda3/partition": "3\n",
    "devices/virtual/dm-0/dev": "253:0\n",
    "devices/virtual/dm-1/dev": "253:1\n",
    "devices/virtual/md0/dev": "9:0\n",
}
SLAVES = {"dm-0": ["sda3"], "dm-1": ["dm-0"], "md0": ["sda3", "sda"]}


@pytest.fixture
def sysfs(tmp_path: os.PathLike[str]) -> str:
    """A partition, an encrypted device on it, a volume on that, and an array of two disks."""
    top = os.fspath(tmp_path)
    where = {}
    for name, text in TREE.items():
        path = os.path.join(top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        if name.endswith("/dev"):
            where[name.split("/")[-2]] = (os.path.dirname(path), text.strip())
    os.makedirs(f"{top}/dev/block")
    for directory, number in where.values():
        os.symlink(directory, f"{top}/dev/block/{number}")
    for name, below in SLAVES.items():
        os.mkdir(f"{where[name][0]}/slaves")
        for other in below:
            os.symlink(where[other][0], f"{where[name][0]}/slaves/{other}")
    return f"{top}/dev/block"


@pytest.mark.parametrize(
    ("device", "disk"),
    [((8, 0), (8, 0)), ((8, 3), (8, 0)), ((253, 1), (8, 0)), ((9, 0), (9, 0)), ((7, 7), (7, 7))],
)
def test_whole_disks(sysfs: str, device: tuple[int, int], disk: tuple[int, int]) -> None:
    assert block.whole_disk(device, sysfs) == disk


def test_what_is_in_memory_is_on_no_disk() -> None:
    assert block.disks(["/proc", "/dev/null", "/sys"]) == []


def test_the_disk_of_this_checkout() -> None:
    number = os.stat(__file__).st_dev
    found = block.disks([__file__, os.path.dirname(__file__)])
    assert len(found) <= 1
    if os.major(number):
        assert found


def test_apparmor(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "enabled")
    assert not apparmor.is_enabled(path)
    for text, expected in (("N\n", False), ("Y\n", True)):
        with open(path, "w") as file:
            file.write(text)
        assert apparmor.is_enabled(path) is expected
    lines = "docker-default (enforce)\n/usr/bin/man//filter (complain)\na (b) c (kill)\n"
    assert apparmor.parse(lines) == {"docker-default", "/usr/bin/man//filter", "a (b) c"}


LXC = """\
process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
# file = "commented"
file = "system_u:object_r:container_file_t:s0"
"""


def test_contexts_of_the_policy(tmp_path: os.PathLike[str]) -> None:
    top = os.fspath(tmp_path)
    assert selinux.container_contexts(top) == {}
    with open(f"{top}/config", "w") as file:
        file.write("# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
    assert selinux.container_contexts(top) == {}
    os.makedirs(f"{top}/targeted/contexts")
    with open(f"{top}/targeted/contexts/lxc_contexts", "w") as file:
        file.write(LXC)
    found = selinux.container_contexts(top)
    assert found["process"] == "system_u:system_r:container_t:s0"
    assert found["file"] == "system_u:object_r:container_file_t:s0"


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ("u:r:t:s0", "u:r:t:s0:c3,c1000"),
        ("u:r:t:s0:c1.c5", "u:r:t:s0:c3,c1000"),
        ("u:r:t:s0-s0:c0.c1023", "u:r:t:s0:c3,c1000"),
        ("u:r:t", "u:r:t:s0:c3,c1000"),
    ],
)
def test_categories(context: str, expected: str) -> None:
    assert selinux.with_categories(context, (1000, 3)) == expected
