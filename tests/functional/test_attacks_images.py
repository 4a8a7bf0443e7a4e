"""What a hostile image may try, from its bytes to its names, each against the whole program.

The numbers are those of docs/guarantees.md.  After each attack the host's directories, the canaries
and the store are as they were, or the store holds the image and nothing else; and memory stayed small.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import tarfile

import pytest
import zstandard

from functional.fetching import INSECURE, NAME
from support import aci, oci
from support.driver import Rkt
from support.surroundings import Surroundings

pytestmark = pytest.mark.promise("P4")


@pytest.fixture
def around(rkt: Rkt) -> Surroundings:
    return Surroundings(rkt)


def member(name: str, type: bytes = tarfile.REGTYPE, data: bytes = b"", **more: object) -> oci.Member:
    info = tarfile.TarInfo(name)
    info.type, info.size = type, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def archive(*members: oci.Member, manifest: bytes | None = None) -> bytes:
    """An image with exactly these members besides rootfs and a manifest."""
    text = json.dumps(aci.manifest(NAME)).encode() if manifest is None else manifest
    return oci.tar([oci.directory("rootfs"), *members, oci.file("manifest", text)])


def between(middle: bytes) -> bytes:
    """An image with these bytes among its members."""
    return archive()[:512] + middle + archive()[512:]


def extended(name: bytes, value: bytes) -> bytes:
    """A header of the pax format with one record."""
    record = b" " + name + b"=" + value + b"\n"
    length = len(record) + 1
    while len(str(length)) + len(record) != length:
        length += 1
    body = str(length).encode() + record
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(body)
    return info.tobuf() + body + bytes(-len(body) % 512)


def write(around: Surroundings, data: bytes, name: str = "hostile.aci") -> str:
    path = os.path.join(around.canaries, name)
    with open(path, "wb") as file:
        file.write(data)
    around.before = around.state()
    return path


def layout(around: Surroundings, *layers: oci.Layer, config: dict[str, object] | None = None) -> str:
    made = oci.Layout(os.path.join(around.canaries, f"layout{len(os.listdir(around.canaries))}"))
    made.image("1", list(layers), config=config or {})
    around.before = around.state()
    return f"oci:{made.path}:1"


def rendered(around: Surroundings, key: str) -> str:
    target = os.path.join(around.output, "rendered")
    around.confined("image", "render", "--rootfs-only", "--overwrite", key, target)
    return target


class TestNames:
    @pytest.mark.attack(1)
    @pytest.mark.parametrize(
        "name",
        [
            "../escaped",
            "rootfs/../../escaped",
            "/etc/escaped",
            "./rootfs/a/../../../escaped",
            "rootfs/..",
            "rootfs2/x",
            "rootfs/" + "../" * 30 + "etc/escaped",
        ],
    )
    def test_that_lead_out_of_an_image(self, around: Surroundings, name: str) -> None:
        around.refused(INSECURE, "fetch", write(around, archive(member(name))))

    @pytest.mark.attack(1)
    def test_with_nul(self, around: Surroundings) -> None:
        """Only an extended header can hold one."""
        data = archive(member("rootfs/" + "a" * 120 + "xx"))
        data = data.replace(b"a" * 120 + b"xx\n", b"a" * 120 + b"x\0\n", 1)
        around.refused(INSECURE, "fetch", write(around, data))

    @pytest.mark.attack(1)
    def test_with_newline_and_more(self, around: Surroundings) -> None:
        """Odd names are names: the tree has exactly them, and none is anything else to a terminal."""
        names = ["new\nline", "\x1b[2J", " ", "-rf", "%s%n", "*"]
        data = archive(*(member(f"rootfs/{name}") for name in names))
        key = around.confined(INSECURE, "fetch", "--full", write(around, data)).out.strip()
        assert sorted(os.listdir(rendered(around, key))) == sorted(names)
        done = around.refused(INSECURE, "fetch", write(around, archive(member("\x1b]0;x\x07/../.."))))
        assert "\x1b" not in done.err and "\x07" not in done.err

    @pytest.mark.attack(1)
    @pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "a/..", ".."])
    def test_that_lead_out_of_a_layer(self, around: Surroundings, name: str) -> None:
        around.refused(INSECURE, "fetch", layout(around, oci.Layer(oci.tar([oci.file(name)]))))

    @pytest.mark.attack(6)
    def test_longer_than_any_path(self, around: Surroundings) -> None:
        for name in ("rootfs/" + "n" * 5000, "rootfs/" + "d/" * 3000 + "f", "rootfs/" + "n" * 300):
            around.refused(INSECURE, "fetch", write(around, archive(member(name))))


class TestLinks:
    @pytest.mark.attack(2)
    @pytest.mark.parametrize("target", ["/", "../../../../../../..", "."])
    def test_file_through_a_symbolic_link(self, around: Surroundings, target: str) -> None:
        """The link leads nowhere else than inside the tree."""
        out = around.canaries.strip("/")
        data = archive(
            member("rootfs/link", tarfile.SYMTYPE, linkname=target),
            member(f"rootfs/link/{out}/file", data=b"overwritten"),
            member("rootfs/link/etc/escaped", data=b"x"),
        )
        key = around.confined(INSECURE, "fetch", "--full", write(around, data)).out.strip()
        around.confined("image", "extract", "--overwrite", key, os.path.join(around.output, "extracted"))
        assert not os.path.exists("/etc/escaped")

    @pytest.mark.attack(2)
    def test_file_through_a_link_to_nowhere(self, around: Surroundings) -> None:
        """A directory that only the host has."""
        data = archive(
            member("rootfs/link", tarfile.SYMTYPE, linkname=around.canaries), member("rootfs/link/d/escaped")
        )
        done = around.run(INSECURE, "fetch", write(around, data))
        assert done.code == 254 and "link' is a link that leads nowhere" in done.err, done
        around.check(store=False)

    @pytest.mark.attack(2)
    def test_file_through_a_link_of_another_layer(self, around: Surroundings) -> None:
        out = around.canaries
        one = oci.Layer(
            oci.tar([oci.symlink("usr", "/"), oci.symlink("out", out), oci.symlink("self", "self")])
        )
        two = oci.Layer(
            oci.tar([oci.file("usr/x", b"1"), oci.file("out/file", b"2"), oci.whiteout("out/directory")])
        )
        key = around.confined(INSECURE, "fetch", "--full", layout(around, one, two)).out.strip()
        target = rendered(around, key)
        assert os.path.exists(f"{target}/x") and os.path.exists(f"{target}{out}/file")
        around.refused(
            INSECURE,
            "fetch",
            layout(around, one, oci.Layer(oci.tar([oci.file("self/x", b"1")]))),
            reason="links",
        )

    @pytest.mark.attack(3)
    @pytest.mark.parametrize(
        "target", ["/etc/passwd", "rootfs/../../etc/passwd", "../canaries/file", "manifest"]
    )
    def test_hard_link_out_of_an_image(self, around: Surroundings, target: str) -> None:
        data = archive(member("rootfs/x", tarfile.LNKTYPE, linkname=target))
        around.refused(INSECURE, "fetch", write(around, data))

    @pytest.mark.attack(3)
    def test_hard_link_to_and_through_a_symbolic_link(self, around: Surroundings) -> None:
        """It is another name of the link itself; what it leads to has no name more than before."""
        data = archive(
            member("rootfs/out", tarfile.SYMTYPE, linkname=f"{around.canaries}/file"),
            member("rootfs/again", tarfile.LNKTYPE, linkname="rootfs/out"),
        )
        key = around.confined(INSECURE, "fetch", "--full", write(around, data)).out.strip()
        target = rendered(around, key)
        assert os.path.islink(f"{target}/again")
        assert os.lstat(f"{target}/again").st_ino == os.lstat(f"{target}/out").st_ino
        through = archive(
            member("rootfs/out", tarfile.SYMTYPE, linkname=around.canaries),
            member("rootfs/x", tarfile.LNKTYPE, linkname="rootfs/out/file"),
        )
        around.before = around.state()
        around.refused(INSECURE, "fetch", write(around, through))

    @pytest.mark.attack(3)
    def test_hard_link_to_what_is_removed_later(self, around: Surroundings) -> None:
        """The content stays under the other name, as one file with nobody else's."""
        one = oci.Layer(oci.tar([oci.file("a", b"content"), oci.link("b", "a"), oci.file("c", b"other")]))
        two = oci.Layer(oci.tar([oci.whiteout("a"), oci.link("d", "b"), oci.whiteout("c")]))
        key = around.confined(INSECURE, "fetch", "--full", layout(around, one, two)).out.strip()
        target = rendered(around, key)
        assert sorted(os.listdir(target)) == ["b", "d"]
        assert os.stat(f"{target}/b").st_ino == os.stat(f"{target}/d").st_ino
        assert os.stat(f"{target}/b").st_nlink == 2
        with open(f"{target}/d") as file:
            assert file.read() == "content"


@pytest.mark.attack(4)
class TestWhiteouts:
    @pytest.mark.parametrize("name", [".wh..", ".wh...", "a/.wh.", "a/.wh..", ".wh.a/b"])
    def test_that_name_nothing(self, around: Surroundings, name: str) -> None:
        layers = [
            oci.Layer(oci.tar([oci.directory("a"), oci.file("a/f")])),
            oci.Layer(oci.tar([oci.file(name)])),
        ]
        around.refused(INSECURE, "fetch", layout(around, *layers))

    def test_through_links(self, around: Surroundings) -> None:
        """What is taken away is in the tree: the host's directory of that name keeps all it has."""
        one = oci.Layer(
            oci.tar(
                [
                    oci.symlink("out", around.canaries),
                    oci.directory("real"),
                    oci.file("real/f"),
                    oci.symlink("link", "real"),
                ]
            )
        )
        two = oci.Layer(
            oci.tar(
                [oci.whiteout("out/file"), oci.opaque("out"), oci.opaque("link"), oci.file("link/g", b"")]
            )
        )
        key = around.confined(INSECURE, "fetch", "--full", layout(around, one, two)).out.strip()
        target = rendered(around, key)
        assert os.listdir(f"{target}/real") == ["g"]
        assert os.readlink(f"{target}/out") == around.canaries

    def test_in_an_image_of_its_own_are_plain_files(self, around: Surroundings) -> None:
        """The format of appc knows no such signs: nothing is removed, and no sign of overlayfs is made."""
        data = archive(member("rootfs/.wh.a"), member("rootfs/a"), member("rootfs/.wh..wh..opq"))
        key = around.confined(INSECURE, "fetch", "--full", write(around, data)).out.strip()
        assert sorted(os.listdir(rendered(around, key))) == [".wh..wh..opq", ".wh.a", "a"]


@pytest.mark.attack(5)
class TestPrivileges:
    def test_what_is_kept_and_what_is_not(self, around: Surroundings) -> None:
        attributes = {
            "security.capability": oci.CAPABILITY,
            "security.selinux": b"system_u:object_r:x\0",
            "security.ima": b"\1\2",
            "trusted.overlay.opaque": b"y",
            "trusted.x": b"1",
            "user.overlay.metacopy": b"",
            "system.posix_acl_access": struct.pack("<I", 2),
            "user.note": b"1",
        }
        layer = oci.tar(
            [
                oci.directory("rootfs"),
                oci.file("rootfs/f", b"f", mode=0o6755, uid=7, xattrs=attributes),
                oci.device("rootfs/null", 1, 3),
                oci.file("manifest", json.dumps(aci.manifest(NAME)).encode()),
            ]
        )
        key = around.confined(INSECURE, "fetch", "--full", write(around, layer)).out.strip()
        target = rendered(around, key)
        assert sorted(os.listxattr(f"{target}/f")) == ["security.capability", "user.note"]
        assert os.stat(f"{target}/f").st_mode & 0o7777 == 0o6755
        assert os.stat(f"{target}/null").st_rdev == os.makedev(1, 3)
        # nobody but root comes near set-user-ID files and devices in the store
        assert os.stat(os.path.join(around.rkt.dir, "cas/tree")).st_mode & 0o077 == 0

    def test_sign_of_overlayfs(self, around: Surroundings) -> None:
        data = archive(member("rootfs/x", tarfile.CHRTYPE, devmajor=0, devminor=0))
        done = around.run(INSECURE, "fetch", write(around, data))
        assert done.code == 254 and "sign of overlayfs" in done.err, done


@pytest.mark.attack(6)
class TestBombs:
    @pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
    def test_compression(self, around: Surroundings, kind: str) -> None:
        """A thousand to one and more: no more than the limit is ever written."""
        small = {"gzip": gzip.compress, "zstd": zstandard.compress}.get(kind)
        data = archive(member("rootfs/zeros", data=bytes(300 << 20)))
        packed = (
            small(data)
            if small
            else subprocess.run([kind, "-c", "-1"], input=data, capture_output=True, check=True).stdout
        )
        assert len(packed) * 100 < len(data)
        path = write(around, packed)
        around.refused(INSECURE, "fetch", "--max-image-size=50M", path, reason="larger than 52428800 bytes")

    def test_nested_compression_is_undone_once(self, around: Surroundings) -> None:
        around.refused(INSECURE, "fetch", write(around, gzip.compress(gzip.compress(archive()))))

    def test_holes(self, around: Surroundings) -> None:
        """A terabyte that takes no room is a terabyte all the same; a thousandth of it takes no room."""
        path = os.path.join(around.canaries, "holes")
        for size, good in ((1 << 40, False), (1 << 30, True)):
            with open(path, "wb") as file:
                file.truncate(size)
            sparse = subprocess.run(
                [
                    "tar",
                    "-C",
                    around.canaries,
                    "--format=posix",
                    "--transform=s,^,rootfs/,",
                    "-Scf",
                    "-",
                    "holes",
                ],
                capture_output=True,
                check=True,
            ).stdout[: -(1 << 10)]
            end = sparse.rstrip(b"\0")
            body = sparse[: -(-len(end) // 512) * 512]
            file_path = write(around, between(body))
            if not good:
                around.refused(INSECURE, "fetch", file_path, reason="larger than")
                continue
            around.confined(INSECURE, "fetch", file_path)
            used = int(
                subprocess.run(
                    ["du", "-s", "--block-size=1", around.rkt.dir], capture_output=True, check=True
                ).stdout.split()[0]
            )
            assert used < 20 << 20

    def test_a_million_files(self, around: Surroundings) -> None:
        one = oci.tar([oci.file("rootfs/0000000")])[:512]
        digits = sum(b"0000000")
        total = sum(one[:148]) + sum(one[156:]) + 8 * 32 - digits
        data = io.BytesIO()
        with zstandard.ZstdCompressor(1).stream_writer(data, closefd=False) as file:
            file.write(archive()[:512])
            for number in range(1_000_001):
                name = b"%07d" % number
                file.write(b"rootfs/%b%b%06o\0 %b" % (name, one[14:148], total + sum(name), one[156:]))
            file.write(archive()[512:])
        path = write(around, data.getvalue())
        around.refused(INSECURE, "fetch", path, reason="more than 1000000 entries")

    @pytest.mark.parametrize("size", [b"513", b"100000", b"-1", b"99999999999999999999", b"0x8", b"8 "])
    def test_sizes_that_lie(self, around: Surroundings, size: bytes) -> None:
        """A size in an extended header decides where the next header is: there has to be one."""
        info, data = member("rootfs/f", data=b"12345678")
        plain = info.tobuf() + data.ljust(512, b"\0")
        good = between(extended(b"size", b"8") + plain)
        around.confined(INSECURE, "fetch", write(around, good))
        around.before = around.state()
        around.refused(INSECURE, "fetch", write(around, between(extended(b"size", size) + plain)))

    def test_times_out_of_range(self, around: Surroundings) -> None:
        """A time before 1970 is a time; one that no file can have is refused or cut."""
        info, data = member("rootfs/f", data=b"1", mtime=-86400)
        key = around.confined(INSECURE, "fetch", "--full", write(around, archive((info, data)))).out.strip()
        assert os.stat(rendered(around, key) + "/f").st_mtime == -86400


@pytest.mark.attack(7)
class TestManifests:
    @pytest.mark.parametrize(
        "manifest",
        [
            b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a","x":'
            + b"[" * 200_000
            + b"]" * 200_000
            + b"}",
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            b'\xef\xbb\xbf{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a"}',
            b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a"} x',
            b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a"',
            b'{"acKind":"ImageManifest","acVersion":"' + b"9" * 5000 + b'.0.0","name":"a"}',
            b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a","dependencies":[{"imageName":"b","size":'
            + b"9" * 5000
            + b"}]}",
            b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":NaN}',
            b'{"acKind":"PodManifest","acVersion":"0.8.11","apps":[]}',
            b"\0" * 100,
            b"",
            b" " * (5 << 20),
        ],
        ids="lists objects mark rest cut version size nan pod nul empty blanks".split(),
    )
    def test_that_are_none(self, around: Surroundings, manifest: bytes) -> None:
        around.refused(INSECURE, "fetch", write(around, archive(manifest=manifest)))

    def test_two_of_them(self, around: Surroundings) -> None:
        text = json.dumps(aci.manifest(NAME)).encode()
        around.refused(INSECURE, "fetch", write(around, archive(oci.file("manifest", text))))
        link = member("manifest", tarfile.SYMTYPE, linkname="/etc/passwd")
        data = oci.tar([oci.directory("rootfs"), link])
        around.refused(INSECURE, "fetch", write(around, data))

    def test_members_given_twice(self, around: Surroundings) -> None:
        """One parser reads them everywhere, as the specification's does: the last one counts, for all."""
        text = b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/one",'
        text += b'"name":"example.com/two"}'
        key = around.confined(INSECURE, "fetch", "--full", write(around, archive(manifest=text))).out.strip()
        assert around.run("image", "list", "--no-legend", "--fields=name").out == "example.com/two\n"
        assert json.loads(around.run("image", "cat-manifest", key).out)["name"] == "example.com/two"
        assert around.run("image", "rm", "example.com/one").out == ""
        assert key in around.run("image", "rm", "example.com/two").out

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text.replace(b'"schemaVersion"', b'"schemaVersion":2,"schemaVersion"', 1),
            lambda text: b"\xef\xbb\xbf" + text,
            lambda text: text.replace(b'"size":', b'"size":' + b"9" * 700, 1),
            lambda text: text[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ],
    )
    def test_of_container_images(self, around: Surroundings, change) -> None:
        word = layout(around, oci.Layer(oci.tar([oci.file("f")])))
        top = word.split(":")[1]
        with open(os.path.join(top, "index.json"), "rb") as file:
            index = json.load(file)
        digest = index["manifests"][0]["digest"]
        with open(os.path.join(top, "blobs/sha256", digest.partition(":")[2]), "rb") as file:
            text = change(file.read())
        new = oci.digest(text)
        with open(os.path.join(top, "blobs/sha256", new.partition(":")[2]), "wb") as file:
            file.write(text)
        index["manifests"][0].update(digest=new, size=len(text))
        with open(os.path.join(top, "index.json"), "w") as file:
            json.dump(index, file)
        around.before = around.state()
        around.refused(INSECURE, "fetch", word)
