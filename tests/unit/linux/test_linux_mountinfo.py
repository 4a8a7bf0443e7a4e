from __future__ import annotations

import os

import pytest

from rkt.errors import RktError
from rkt.linux import mount, mountinfo

TABLE = """\
19 0 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/root rw,discard
20 19 0:4 / /proc rw,nosuid shared:5 - proc proc rw
21 19 8:2 /sub /a\\040b\\134c ro,nodev shared:26 master:88 propagate_from:2 - ext4 /dev/sda2 rw
22 21 0:30 / /a\\040b\\134c/x rw - tmpfs tmpfs rw
23 19 0:31 / /a\\040b\\134c rw - tmpfs with\\011tab rw
24 19 0:32 / /- rw - tmpfs - rw
"""


def test_fields_and_escapes():
    table = mountinfo.parse(TABLE)
    third = table[2]
    assert (third.id, third.parent, third.device, third.root) == (21, 19, "8:2", "/sub")
    assert third.target == "/a b\\c"
    assert (third.shared, third.master, third.read_only) == (26, 88, True)
    assert table[3].shared == table[3].master == 0
    assert table[4].source == "with\ttab"
    assert (table[5].target, table[5].source, table[5].fstype) == ("/-", "-", "tmpfs")


def test_malformed_line_is_named():
    with pytest.raises(RktError, match="malformed line in mountinfo: '16 19 - sys rw'"):
        mountinfo.parse("20 19 0:4 / /proc rw - proc proc rw\n16 19 - sys rw\n")


def test_below_is_deepest_and_uppermost_first():
    table = mountinfo.parse(TABLE)
    assert [entry.id for entry in mountinfo.below("/a b\\c", table)] == [22, 23, 21]
    assert [entry.id for entry in mountinfo.below("/a", table)] == []
    assert mountinfo.below("/", table)[-1].id == 19
    found = mountinfo.find("/a b\\c", table)
    assert found is not None
    assert found.id == 23


def test_own_table_is_readable():
    assert any(entry.target == "/proc" for entry in mountinfo.read())


@pytest.mark.promise("P7")
def test_unmount_below_takes_stacks_and_keeps_what_is_shared_with_the_host(tmp_path):
    host, pod = f"{tmp_path}/host", f"{tmp_path}/pod"
    for directory in (host, pod):
        os.mkdir(directory)
    mount.mount("host", host, "tmpfs")
    mount.set_propagation(host, mount.MS_SHARED)
    os.mkdir(f"{host}/inner")
    mount.mount("inner", f"{host}/inner", "tmpfs")
    try:
        for _ in range(2):
            mount.mount("pod", pod, "tmpfs")
            os.mkdir(f"{pod}/volume")
            mount.mount(host, f"{pod}/volume", None, mount.MS_BIND | mount.MS_REC)
        assert mountinfo.unmount_below(pod) == 6
        assert mountinfo.below(pod) == []
        assert [entry.source for entry in mountinfo.below(host)] == ["inner", "host"]
    finally:
        mountinfo.unmount_below(host)


def test_unmount_below_finishes_when_busy(tmp_path):
    mount.mount("busy", os.fspath(tmp_path), "tmpfs")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert mountinfo.unmount_below(os.fspath(tmp_path)) == 1
    finally:
        os.close(fd)
