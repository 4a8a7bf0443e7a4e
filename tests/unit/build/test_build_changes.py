"""What a build has hidden of the images below it, from the signs overlayfs leaves."""

from __future__ import annotations

import os
import stat

import pytest

from rkt.build.acbuild import changes


@pytest.fixture
def trees(tmp_path: os.PathLike[str]) -> tuple[str, str]:
    lower, upper = (os.path.join(tmp_path, name) for name in ("lower", "upper"))
    for name in ("keep", "gone", "opaque", "becomes-file"):
        os.makedirs(os.path.join(lower, name))
        touch(lower, name, "low")
    touch(lower, "becomes-dir")
    os.makedirs(upper)
    return lower, upper


def touch(*names: str) -> None:
    with open(os.path.join(*names), "w"):
        pass


def remove(*names: str) -> None:
    os.mknod(os.path.join(*names), stat.S_IFCHR, 0)


def test_nothing_hidden(trees: tuple[str, str]) -> None:
    lower, upper = trees
    os.mkdir(os.path.join(upper, "keep"))
    touch(upper, "keep/high")
    os.mknod(os.path.join(upper, "null"), stat.S_IFCHR, os.makedev(1, 3))
    assert not changes.hides_something(upper)
    assert {"/keep", "/keep/low", "/keep/high", "/null", "/gone/low"} <= set(changes.visible(lower, upper))


def test_every_sign(trees: tuple[str, str]) -> None:
    lower, upper = trees
    remove(upper, "gone")
    os.mkdir(os.path.join(upper, "keep"))
    os.mkdir(os.path.join(upper, "opaque"))
    os.setxattr(os.path.join(upper, "opaque"), changes.OPAQUE, b"y")
    touch(upper, "opaque/high")
    touch(upper, "becomes-file")
    os.mkdir(os.path.join(upper, "becomes-dir"))
    touch(upper, "becomes-dir/x")
    assert changes.hides_something(upper)
    assert changes.visible(lower, upper) == [
        "/becomes-dir",
        "/becomes-dir/x",
        "/becomes-file",
        "/keep",
        "/keep/low",
        "/opaque",
        "/opaque/high",
    ]


def test_signs_below_what_is_new(trees: tuple[str, str]) -> None:
    lower, upper = trees
    os.makedirs(os.path.join(upper, "keep"))
    remove(upper, "keep/low")
    assert changes.hides_something(upper)
    assert "/keep/low" not in changes.visible(lower, upper)
    assert "/keep" in changes.visible(lower, upper)


def test_no_link_is_followed(trees: tuple[str, str]) -> None:
    lower, upper = trees
    os.symlink("/", os.path.join(upper, "keep"))
    os.symlink("/etc", os.path.join(lower, "etc"))
    assert [path for path in changes.visible(lower, upper) if path.startswith(("/keep", "/etc"))] == [
        "/etc",
        "/keep",
    ]
