"""Looking up programs inside a root, and explaining why one cannot be executed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from rkt.errors import RktError
from rkt.stage1.common import executable
from rkt.stage1.common.users import Identity


@pytest.fixture
def root(tmp_path: os.PathLike[str]) -> Iterator[int]:
    base = os.fspath(tmp_path)
    for name in ("bin", "usr/bin", "work", "proc", "empty"):
        os.makedirs(f"{base}/{name}")
    for name in ("bin/tool", "work/tool2", "usr/bin/both", "bin/both"):
        with open(f"{base}/{name}", "wb") as file:
            file.write(b"#!/bin/tool\n")
        os.chmod(f"{base}/{name}", 0o755)
    with open(f"{base}/bin/plain", "wb"):
        pass
    os.mkdir(f"{base}/work/tool")
    os.symlink("/bin/tool", f"{base}/bin/link")
    os.symlink("../../../../../../bin/sh", f"{base}/bin/out")
    os.symlink("/proc/self/exe", f"{base}/bin/magic")
    os.symlink("loop", f"{base}/bin/loop")
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def find(root: int, name: str, path: str | None = "/usr/bin:/bin", directory: str = "/work") -> str:
    return executable.find(root, name, search_path=path, working_directory=directory)


def test_search(root: int) -> None:
    assert find(root, "tool") == "/bin/tool"
    assert find(root, "both") == "/usr/bin/both"
    assert find(root, "link") == "/bin/link"
    assert find(root, "tool2", None) == "/work/tool2"
    assert find(root, "tool", None) == "/bin/tool"  # the directory of this name is passed over
    assert find(root, "tool2", ".:/bin") == "/work/./tool2"
    assert find(root, "/no/such") == "/no/such"
    assert find(root, "sub/x") == "/work/sub/x"


def test_nothing_found(root: int) -> None:
    with pytest.raises(RktError) as caught:
        find(root, "plain")
    assert caught.value.message == 'error looking up "plain": unable to find "plain" in "/usr/bin:/bin"'
    with pytest.raises(RktError, match="no exec"):
        find(root, "")


@pytest.mark.promise("P4")
@pytest.mark.parametrize(
    "name",
    ["/proc/self/exe", "/proc/1/root/bin/sh", "/bin/../proc/1/exe", "/bin/magic", "../proc/x", "magic"],
)
@pytest.mark.attack(12)
def test_procfs_is_refused(root: int, name: str) -> None:
    with pytest.raises(RktError):
        find(root, name)


@pytest.mark.promise("P4")
def test_links_stay_inside(root: int) -> None:
    assert executable.diagnose(root, "/bin/out") == 'Unable to open "/bin/out": No such file or directory'
    assert "Too many levels" in executable.diagnose(root, "/bin/loop")


def test_diagnosis(root: int, tmp_path: os.PathLike[str]) -> None:
    missing = 'Unable to open "/bin/nosuch": No such file or directory'
    assert executable.diagnose(root, "/bin/nosuch") == missing
    denied = 'Unable to execute "/bin/plain": Permission denied'
    assert executable.diagnose(root, "/bin/plain") == f"{denied}, it has no execute permission"
    assert executable.diagnose(root, "/work/tool") == 'Unable to execute "/work/tool": Is a directory'
    os.chmod(f"{tmp_path}/bin/plain", 0o755)
    assert "neither a program" in executable.diagnose(root, "/bin/plain")
    assert executable.diagnose(root, "/bin/tool") == ""
    for text, words in (
        (b"#! /bin/nosuch -x", 'Unable to open "/bin/nosuch"'),
        (b"#!/proc/self/exe\n", "leads into /proc"),
        (b"#!\n", "empty interpreter line"),
    ):
        with open(f"{tmp_path}/bin/plain", "wb") as file:
            file.write(text)
        assert words in executable.diagnose(root, "/bin/plain")


def test_what_a_user_may_execute(root: int, tmp_path: os.PathLike[str]) -> None:
    """By the mode bits of the file, and of the directories it lies in after all links."""
    tool = f"{tmp_path}/bin/tool"
    os.symlink("tool", f"{tmp_path}/bin/other")
    os.chown(tool, 7, 8)
    os.chmod(tmp_path, 0o755)

    def reason(uid: int, gid: int, groups: list[int], mode: int, path: str = "/bin/tool") -> str:
        os.chmod(tool, mode)
        return executable.diagnose(root, path, Identity(uid, gid, groups))

    denied = 'Unable to execute "/bin/tool": Permission denied, the user of the app may not '
    assert reason(7, 9, [], 0o100) == reason(1, 8, [], 0o010) == reason(1, 9, [3, 8], 0o010) == ""
    assert reason(7, 8, [], 0o011) == reason(1, 8, [], 0o101) == reason(1, 2, [], 0o110)
    assert reason(1, 2, [], 0o110) == f"{denied}execute it"
    assert reason(1, 2, [], 0o110, "/bin/other").endswith("may not execute it")
    os.chmod(f"{tmp_path}/bin", 0o700)
    assert reason(1, 2, [], 0o111) == f"{denied}search /bin"
    assert executable.diagnose(root, "/bin/tool") == ""


def test_programs_of_another_machine(root: int, tmp_path: os.PathLike[str]) -> None:
    """Told of, but not refused: binfmt_misc may have an interpreter for them."""
    with open(f"{tmp_path}/bin/tool", "wb") as file:
        file.write(b"\x7fELF\2\1\1" + bytes(9) + b"\2\0" + (243).to_bytes(2, "little") + bytes(100))
    assert "a program for another machine (ELF 243)" in executable.diagnose(root, "/bin/tool")
    assert executable.obstacle(root, "/bin/tool") == ""


def test_elf_interpreter(root: int, tmp_path: os.PathLike[str]) -> None:
    shutil.copy("/usr/bin/env", f"{tmp_path}/bin/env")
    assert "its interpreter is missing" in executable.diagnose(root, "/bin/env")
    with open("/usr/bin/env", "rb") as file:
        head = file.read(4096)
    assert executable.elf_interpreter(head).startswith("/lib")
    # cut off anywhere, it is a damaged header and no crash
    for length in range(4, 600, 7):
        executable.elf_interpreter(head[:length])
