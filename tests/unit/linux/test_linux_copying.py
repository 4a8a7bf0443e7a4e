"""A directory's content copied by fds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rkt.linux import copying


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    try:
        copying.copy_content(*fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_everything_about_a_file_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "file").write_bytes(b"x" * 70000)
    os.chown(source / "file", 1000, 1001)
    os.chmod(source / "file", 0o6755)
    os.setxattr(source / "file", "user.note", b"kept")
    os.utime(source / "file", ns=(10**18, 10**18 + 5))
    os.link(source / "file", source / "inner" / "same")
    os.symlink("/etc/shadow", source / "inner" / "link")
    os.mkfifo(source / "fifo", 0o620)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod(source / "inner", 0o1711)
    os.utime(source / "inner", ns=(10**18, 10**18))
    target = tmp_path / "target"
    _copy(source, target)
    file = os.stat(target / "file")
    assert (target / "file").read_bytes() == b"x" * 70000
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (1000, 1001, 0o6755)
    assert (file.st_mtime_ns, file.st_nlink) == (10**18 + 5, 2)
    assert os.getxattr(target / "file", "user.note") == b"kept"
    assert os.stat(target / "inner" / "same").st_ino == file.st_ino
    assert os.readlink(target / "inner" / "link") == "/etc/shadow"
    assert stat.S_ISFIFO(os.stat(target / "fifo").st_mode)
    assert os.stat(target / "null").st_rdev == os.makedev(1, 3)
    inner = os.stat(target / "inner")
    assert (stat.S_IMODE(inner.st_mode), inner.st_mtime_ns) == (0o1711, 10**18)


def test_what_cannot_be_copied_is_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    deep = source
    for _ in range(210):
        deep = deep / "d"
    os.makedirs(deep)
    with pytest.raises(OSError, match="d/d/d") as caught:
        _copy(source, tmp_path / "target")
    assert str(caught.value.filename).startswith("/d/d")
