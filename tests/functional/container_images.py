"""Container images that tests share, made to hold what goes wrong easily; and what umoci makes of them."""

from __future__ import annotations

import os

from support import oci
from support.driver import Rkt
from support.registry import run

INSECURE = "--insecure-options=image"
CONFIG = {
    "Entrypoint": ["/bin/busybox"],
    "Cmd": ["sh", "-c", "echo hello"],
    "Env": ["PATH=/bin", "A=b=c"],
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    "Volumes": {"/data/x": {}},
    "User": "7:8",
    "WorkingDir": "/tmp",
}


def base_layer(compression: str = "gzip") -> oci.Layer:
    """Directories, links of both kinds, owners, modes, capabilities, devices, long names."""
    long = "/".join(["d" * 200, "e" * 200, "f" * 100])
    return oci.Layer(
        oci.tar(
            [
                oci.directory("./", mode=0o755),
                oci.directory("bin"),
                oci.directory("etc", mode=0o750, uid=1, gid=2),
                oci.file("etc/a", b"a" * 1000, uid=5, gid=6),
                oci.file("etc/b", b"b"),
                oci.link("etc/c", "etc/a"),
                oci.directory("usr"),
                oci.directory("usr/lib"),
                oci.file("usr/lib/x", os.urandom(3_000_000)),
                oci.symlink("lib", "usr/lib"),
                oci.symlink("abs", "/usr/lib"),
                oci.directory("gone"),
                oci.file("gone/1", b"1"),
                oci.directory("opaque"),
                oci.file("opaque/1", b"1"),
                oci.directory("opaque/sub"),
                oci.file("opaque/sub/2", b"2"),
                oci.directory("dir-becomes-file"),
                oci.file("dir-becomes-file/x", b"x"),
                oci.file("file-becomes-dir", b"x"),
                oci.symlink("link-becomes-dir", "etc"),
                oci.file(
                    "cap", b"c", mode=0o755, xattrs={"security.capability": oci.CAPABILITY, "user.note": b"1"}
                ),
                oci.file("setuid", b"s", mode=0o4755, uid=3),
                oci.directory("dev"),
                oci.device("dev/null", 1, 3),
                oci.fifo("pipe"),
                oci.directory("d" * 200),
                oci.directory("d" * 200 + "/" + "e" * 200),
                oci.file(long, b"long"),
                oci.file("umläut-\udcff", b"not utf-8"),
                oci.file("fraction", b"", mtime=1_600_000_000.25),
                oci.directory("sticky", mode=0o1777),
            ]
        ),
        compression,
    )


def change_layer(compression: str = "gzip") -> oci.Layer:
    """Whiteouts before and after what they are about, opaque directories, links into the lower layer."""
    return oci.Layer(
        oci.tar(
            [
                oci.directory("./", mode=0o755),
                oci.whiteout("gone"),
                oci.directory("opaque", mode=0o700),
                oci.file("opaque/new", b"n"),
                oci.opaque("opaque"),
                oci.directory("etc", mode=0o750, uid=1, gid=2),
                oci.whiteout("etc/a"),
                oci.link("etc/e", "etc/b"),
                oci.directory("usr"),
                oci.directory("usr/lib"),
                oci.file("lib/through-link", b"l"),
                oci.file("abs/through-absolute-link", b"l"),
                oci.file("dir-becomes-file", b"f"),
                oci.directory("file-becomes-dir"),
                oci.file("file-becomes-dir/x", b"x"),
                oci.directory("link-becomes-dir"),
                oci.file("link-becomes-dir/y", b"y"),
                oci.file("same-layer", b"kept"),
                oci.whiteout("same-layer"),
                oci.whiteout("never-was"),
            ]
        ),
        compression,
    )


def small_layer() -> oci.Layer:
    """A layer that needs no other one."""
    return oci.Layer(oci.tar([oci.directory("etc"), oci.file("etc/hosts", b"127.0.0.1 localhost\n")]))


def tree_of(rkt: Rkt, reference: str, *options: str) -> str:
    """Fetch an image and render it; the directory of its root file system."""
    key = rkt.ok(INSECURE, "fetch", "--full", *options, reference).out.strip()
    target = os.path.join(rkt.base, "rendered-" + key[-8:])
    rkt.ok("image", "render", "--rootfs-only", "--overwrite", key, target)
    return target


def unpacked_layer(rkt: Rkt, layer: oci.Layer) -> str:
    """Where the store has a layer unpacked."""
    algorithm, _, digits = layer.diff_id.partition(":")
    return os.path.join(rkt.dir, "cas/unpacked", algorithm, digits[:2], digits)


def unpacked_layers(rkt: Rkt) -> list[str]:
    """The diff IDs of all layers that the store has unpacked."""
    base = os.path.join(rkt.dir, "cas/unpacked/sha256")
    if not os.path.isdir(base):
        return []
    return sorted(f"sha256:{name}" for part in os.listdir(base) for name in os.listdir(f"{base}/{part}"))


def readable(directory: str) -> None:
    """Others may pass the directories that pytest makes for its user alone."""
    while os.stat(directory).st_uid == 0 and os.path.dirname(directory) != "/":
        os.chmod(directory, os.stat(directory).st_mode | 0o055)
        directory = os.path.dirname(directory)


def umoci(layout: str, name: str, target: str) -> str:
    """What umoci makes of an image: the directory of its root file system."""
    run(["umoci", "unpack", "--image", f"{layout}:{name}", target])
    return os.path.join(target, "rootfs")
