from __future__ import annotations

import io

import pytest

from rkt.errors import RktError
from rkt.store import layout
from rkt.store.archive import Entry, Reader, Writer

ROOTFS = (Entry("rootfs", "directory"), b"")
MANIFEST = (Entry("manifest", size=2), b"{}")


def check(*members: tuple[Entry, bytes]) -> bytes:
    out = io.BytesIO()
    with Writer(out) as writer:
        for entry, content in members:
            writer.add(entry, content)
    image = layout.ImageLayout()
    reader = Reader(io.BytesIO(out.getvalue()))
    for entry in reader:
        image.check_entry(entry, reader)
    return image.finish()


def file(name: str) -> tuple[Entry, bytes]:
    return Entry(name), b""


def link(name: str, target: str) -> tuple[Entry, bytes]:
    return Entry(name, "link", linkname=target), b""


def test_accepted():
    assert check(MANIFEST, ROOTFS) == b"{}"
    assert check(file("rootfs/early"), ROOTFS, file("rootfs/manifest"), MANIFEST) == b"{}"
    dotted = (Entry("./manifest", size=2), b"[]")
    assert check((Entry("./", "directory"), b""), (Entry("./rootfs/", "directory"), b""), dotted) == b"[]"
    assert check(ROOTFS, ROOTFS, file("rootfs/a"), link("rootfs/b", "rootfs/a"), MANIFEST) == b"{}"


@pytest.mark.promise("P4")
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([ROOTFS], "no manifest"),
        ([MANIFEST], "no rootfs"),
        ([MANIFEST, file("rootfs/x")], "no rootfs"),
        ([MANIFEST, file("rootfs")], "rootfs of the image is not a directory"),
        (
            [MANIFEST, (Entry("rootfs", "symlink", linkname="/"), b"")],
            "rootfs of the image is not a directory",
        ),
        ([MANIFEST, ROOTFS, MANIFEST], "two manifests"),
        ([(Entry("manifest", "symlink", linkname="rootfs/m"), b""), ROOTFS], "not a plain file"),
        ([(Entry("manifest", "directory"), b""), ROOTFS], "not a plain file"),
        ([(Entry("manifest", size=5 << 20), bytes(5 << 20)), ROOTFS], "larger than 4194304 bytes"),
        ([MANIFEST, ROOTFS, file("rootfs2/a")], "only manifest and rootfs"),
        ([MANIFEST, ROOTFS, file("rootfs2")], "only manifest and rootfs"),
        ([MANIFEST, ROOTFS, file("manifest/x")], "only manifest and rootfs"),
        ([MANIFEST, ROOTFS, file("../x")], "leads out"),
        ([MANIFEST, ROOTFS, file("rootfs/../x")], "leads out"),
        ([MANIFEST, ROOTFS, file("rootfs/a/../b")], "leads out"),
        ([MANIFEST, ROOTFS, file("/rootfs/x")], "absolute"),
        ([MANIFEST, ROOTFS, file("rootfs/a/" + "n" * 256)], "longer than 255 bytes"),
        ([MANIFEST, ROOTFS, file("rootfs/" + "ü" * 128)], "longer than 255 bytes"),
        ([MANIFEST, ROOTFS, file("rootfs/a"), file("./rootfs//a")], "'rootfs/a' twice"),
        ([MANIFEST, ROOTFS, *[(Entry("rootfs/d", "directory"), b"")] * 2], "'rootfs/d' twice"),
        ([MANIFEST, ROOTFS, link("rootfs/a", "manifest")], "not in the image before it"),
        ([MANIFEST, ROOTFS, link("rootfs/a", "etc/passwd")], "not in the image before it"),
        ([MANIFEST, ROOTFS, link("rootfs/a", "rootfs/b"), file("rootfs/b")], "not in the image before it"),
        ([MANIFEST, ROOTFS, link("rootfs/a", "/etc/passwd")], "absolute"),
        ([MANIFEST, ROOTFS, link("rootfs/a", "rootfs/../../etc/passwd")], "leads out"),
    ],
)
def test_refused(members, message):
    with pytest.raises(RktError, match=message):
        check(*members)
