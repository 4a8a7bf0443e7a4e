"""actool: images built from layouts, checked, printed and changed, against GNU tar and rkt itself."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import stat
import subprocess
import tarfile
from typing import Any

import pytest

from support import aci
from support.driver import Rkt
from support.tools import Tool


@pytest.fixture
def actool(tmp_path: os.PathLike[str]) -> Tool:
    return Tool("actool", os.fspath(tmp_path))


@pytest.fixture
def layout(actool: Tool) -> str:
    """An image layout with one of everything."""
    path = os.path.join(actool.directory, "layout")
    root = os.path.join(path, "rootfs")
    os.makedirs(os.path.join(root, "bin"))
    os.makedirs(os.path.join(root, "data/empty"))
    shutil.copy(aci.BUSYBOX, os.path.join(root, "bin/busybox"))
    for applet in ("sh", "cat"):
        os.symlink("busybox", os.path.join(root, "bin", applet))
    write(os.path.join(root, "data/first"), b"content\n")
    os.link(os.path.join(root, "data/first"), os.path.join(root, "data/second"))
    os.mkfifo(os.path.join(root, "data/fifo"), 0o640)
    os.mknod(os.path.join(root, "data/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(root, "data/socket"))
    write(os.path.join(root, "data", "x" * 120), b"long name\n")
    os.chown(os.path.join(root, "data/first"), 1000, 1001)
    os.chmod(os.path.join(root, "data/first"), 0o4750)
    os.setxattr(os.path.join(root, "data/first"), "user.note", b"kept")
    os.utime(os.path.join(root, "data/first"), ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    write_manifest(path, aci.manifest("example.com/built", app=aci.app("/bin/sh", "-c", "cat /data/second")))
    return path


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def write_manifest(layout: str, value: dict[str, Any]) -> None:
    write(os.path.join(layout, "manifest"), json.dumps(value).encode())


def members(path: str) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {member.name: member for member in tar}


def image_manifest(path: str) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        file = tar.extractfile("manifest")
        assert file is not None
        value: dict[str, Any] = json.load(file)
        return value


def test_what_gnu_tar_finds_in_a_built_image(actool: Tool, layout: str) -> None:
    actool.ok("build", layout, "out.aci")
    out = os.path.join(actool.directory, "out.aci")
    with open(out, "rb") as file:
        assert file.read(2) == b"\x1f\x8b"
    unpacked = os.path.join(actool.directory, "unpacked")
    os.mkdir(unpacked)
    subprocess.run(["tar", "--xattrs", "-xpf", out, "-C", unpacked], check=True)
    os.unlink(os.path.join(layout, "rootfs/data/socket"))  # what is left out
    difference = subprocess.run(
        ["diff", "-r", "--no-dereference", f"{layout}/rootfs/bin", f"{unpacked}/rootfs/bin"], check=False
    )
    assert difference.returncode == 0
    for name in ("data", "data/first", "data/second", "data/fifo", "data/null", "data/empty", "bin/sh"):
        found, wanted = (os.lstat(f"{tree}/rootfs/{name}") for tree in (unpacked, layout))
        assert (found.st_mode, found.st_uid, found.st_gid, found.st_rdev) == (
            wanted.st_mode,
            wanted.st_uid,
            wanted.st_gid,
            wanted.st_rdev,
        ), name
        assert name == "data" or found.st_mtime_ns == wanted.st_mtime_ns, name
    first, second = (os.stat(f"{unpacked}/rootfs/data/{name}") for name in ("first", "second"))
    assert first.st_ino == second.st_ino
    assert os.getxattr(f"{unpacked}/rootfs/data/first", "user.note") == b"kept"
    assert sorted(os.listdir(f"{unpacked}/rootfs/data")) == sorted(os.listdir(f"{layout}/rootfs/data"))


def test_order_and_links_in_the_archive(actool: Tool, layout: str) -> None:
    actool.ok("build", "--no-compression", layout, "out.aci")
    found = members(os.path.join(actool.directory, "out.aci"))
    assert next(iter(found)) == "rootfs"
    assert list(found)[-1] == "manifest"
    link = found["rootfs/data/second"]
    assert (link.islnk(), link.linkname, link.size) == (True, "rootfs/data/first", 0)
    assert "rootfs/data/socket" not in found


def test_a_built_image_runs(actool: Tool, layout: str, rkt: Rkt) -> None:
    actool.ok("build", layout, "out.aci")
    out = os.path.join(actool.directory, "out.aci")
    actool.ok("validate", out)
    key = rkt.ok("fetch", "--insecure-options=image", out).lines[-1]
    assert key.startswith("sha512-")
    result = rkt.ok("run", "--insecure-options=image", "--net=none", out)
    assert "content" in result.out


def test_the_id_is_what_rkt_says(actool: Tool, layout: str, rkt: Rkt) -> None:
    said = actool.ok("--debug", "build", layout, "out.aci").err.strip().rpartition(" ")[2]
    key = rkt.ok("fetch", "--insecure-options=image", "--full", f"{actool.directory}/out.aci").lines[-1]
    assert said.startswith(key)


def test_deterministic(actool: Tool, layout: str) -> None:
    epoch = {"SOURCE_DATE_EPOCH": "1500000000"}
    actool.ok("build", "--deterministic", layout, "one.aci", env=epoch)
    copy = os.path.join(actool.directory, "copy")
    subprocess.run(["cp", "-a", layout, copy], check=True)
    for parent, directories, names in os.walk(copy):
        for name in (*directories, *names):
            os.utime(os.path.join(parent, name), (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    os.chown(os.path.join(copy, "rootfs/data/fifo"), 7, 7)
    actool.ok("build", "--deterministic", copy, "two.aci", env=epoch)
    one, two = (os.path.join(actool.directory, name) for name in ("one.aci", "two.aci"))
    with open(one, "rb") as first, open(two, "rb") as second:
        assert first.read() == second.read()
    assert {member.mtime for member in members(one).values()} == {1_500_000_000}
    refused = actool("build", "--deterministic", layout, "x.aci", env={"SOURCE_DATE_EPOCH": "soon"})
    assert (refused.code, refused.err) == (1, 'build: SOURCE_DATE_EPOCH is no number of seconds: "soon"\n')


def test_owner_root(actool: Tool, layout: str) -> None:
    actool.ok("build", "-owner-root", "--no-compression", layout, "out.aci")
    found = members(os.path.join(actool.directory, "out.aci"))
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}


def test_what_build_refuses(actool: Tool, layout: str) -> None:
    def refused(*words: str, code: int = 1) -> str:
        result = actool("build", *words)
        assert result.code == code, result
        assert not os.path.exists(os.path.join(actool.directory, "new.aci"))
        return result.err

    assert refused(layout) == "build: must provide directory and output file\n"
    assert refused(layout, "new.tar") == "build: extension must be .aci (given .tar)\n"
    write(os.path.join(actool.directory, "old.aci"), b"old")
    assert refused(layout, "old.aci") == "build: target file exists (try --overwrite)\n"
    write(os.path.join(layout, "extra"), b"")
    assert "'extra': only manifest and rootfs may be there" in refused(layout, "new.aci")
    os.unlink(os.path.join(layout, "extra"))
    write(os.path.join(layout, "manifest"), b'{"acKind": "ImageManifest"}')
    assert "layout failed validation" in refused(layout, "new.aci")
    os.unlink(os.path.join(layout, "manifest"))
    os.mkfifo(os.path.join(layout, "manifest"))
    assert "manifest of the layout is not a regular file" in refused(layout, "new.aci")
    with open(os.path.join(actool.directory, "old.aci"), "rb") as file:
        assert file.read() == b"old"
    assert sorted(os.listdir(actool.directory)) == ["layout", "old.aci"]


def test_a_link_in_the_place_of_rootfs_is_not_followed(actool: Tool, layout: str) -> None:
    os.rename(os.path.join(layout, "rootfs"), os.path.join(actool.directory, "elsewhere"))
    os.symlink(os.path.join(actool.directory, "elsewhere"), os.path.join(layout, "rootfs"))
    result = actool("build", layout, "out.aci")
    assert (result.code, "rootfs of the layout is not a directory" in result.err) == (1, True)


def test_overwrite(actool: Tool, layout: str) -> None:
    write(os.path.join(actool.directory, "out.aci"), b"old")
    actool.ok("build", "--overwrite", layout, "out.aci")
    actool.ok("validate", "--type=appimage", "out.aci")


def test_validate(actool: Tool, layout: str) -> None:
    actool.ok("build", layout, "out.aci")
    quiet = actool.ok("validate", layout, "out.aci", f"{layout}/manifest")
    assert (quiet.out, quiet.err) == ("", "")
    loud = actool.ok("--debug", "validate", layout, "out.aci", f"{layout}/manifest")
    assert loud.err.splitlines() == [
        f"{layout}: valid image layout",
        "out.aci: valid app container image",
        f"{layout}/manifest: valid ImageManifest",
    ]
    write(os.path.join(actool.directory, "pod"), b'{"acKind":"PodManifest","acVersion":"0.8.11","apps":[]}')
    assert actool.ok("-debug", "validate", "pod").err == "pod: valid PodManifest\n"


def test_validate_finds_fault(actool: Tool, layout: str) -> None:
    out = os.path.join(actool.directory, "out.aci")
    aci.build(out, b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"Bad Name"}')
    write(os.path.join(actool.directory, "manifest"), b'{"acKind": "Nonsense"}')
    result = actool("validate", "out.aci", "manifest", layout)
    assert result.code == 1
    lines = result.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("out.aci: error validating: name: ")
    assert lines[1].startswith('manifest: invalid manifest: bad ACKind: "Nonsense"')
    aci.build(out, aci.manifest("example.com/cut"))
    with open(out, "rb") as file:
        whole = file.read()
    write(out, whole[: whole.rindex(b"}") + 100])
    assert "cut off" in actool("validate", "out.aci").err
    assert actool("validate", "nothing").err.startswith("validate: unable to access nothing")
    assert "wrong --type?" in actool("validate", "--type=manifest", layout).err
    write(os.path.join(actool.directory, "binary"), b"\0\1\2\3")
    assert "unable to detect file type" in actool("validate", "binary").err
    assert actool("validate").err == "validate: must pass one or more files\n"


def test_cat_manifest(actool: Tool, layout: str) -> None:
    actool.ok("build", layout, "out.aci")
    plain = actool.ok("cat-manifest", "out.aci").out
    assert plain.count("\n") == 1
    pretty = actool.ok("cat-manifest", "--pretty-print", "out.aci").out
    assert pretty.splitlines()[1] == '    "acKind": "ImageManifest",'
    assert json.loads(plain) == json.loads(pretty) == image_manifest(f"{actool.directory}/out.aci")


def test_patch_manifest(actool: Tool, layout: str) -> None:
    actool.ok("build", layout, "in.aci")
    actool.ok(
        "patch-manifest",
        "--name=example.com/patched",
        "--exec=/bin/sh -c id",
        "--user=1000",
        "--group=1001",
        "--supplementary-groups=7,8",
        "--revoke-capability=CAP_KILL,CAP_CHOWN",
        "--mounts=work,path=/opt,readOnly=true:other,path=/srv",
        "--ports=query,protocol=tcp,port=8080",
        "--isolators=resource/cpu,request=50m,limit=100m:os/linux/no-new-privileges,true",
        "--seccomp-mode=retain,errno=EPERM",
        "--seccomp-set=open,read",
        "in.aci",
        "out.aci",
    )
    before, after = (image_manifest(f"{actool.directory}/{name}.aci") for name in ("in", "out"))
    app = after["app"]
    assert (before["name"], after["name"]) == ("example.com/built", "example.com/patched")
    assert app["exec"] == ["/bin/sh", "-c", "id"]
    assert (app["user"], app["group"], app["supplementaryGIDs"]) == ("1000", "1001", [7, 8])
    assert [(point["name"], point["path"], point.get("readOnly")) for point in app["mountPoints"]] == [
        ("work", "/opt", True),
        ("other", "/srv", None),
    ]
    assert app["ports"][0]["port"] == 8080
    assert {one["name"]: one["value"] for one in app["isolators"]} == {
        "os/linux/capabilities-remove-set": {"set": ["CAP_KILL", "CAP_CHOWN"]},
        "os/linux/seccomp-retain-set": {"set": ["open", "read"], "errno": "EPERM"},
        "resource/cpu": {"request": "50m", "limit": "100m"},
        "os/linux/no-new-privileges": True,
    }
    one, two = (members(f"{actool.directory}/{name}.aci") for name in ("in", "out"))
    for name, member in one.items():
        if name != "manifest":
            wanted, found = member.get_info(), two[name].get_info()
            assert (wanted, member.pax_headers) == (found, two[name].pax_headers), name


def test_patching_again_replaces(actool: Tool, layout: str) -> None:
    actool.ok("build", layout, "in.aci")
    actool.ok("patch-manifest", "--replace", "--capability=CAP_KILL", "--mounts=a,path=/one", "in.aci")
    actool.ok("patch-manifest", "--replace", "--capability=CAP_CHOWN", "--mounts=a,path=/two", "in.aci")
    app = image_manifest(f"{actool.directory}/in.aci")["app"]
    assert app["isolators"] == [{"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_CHOWN"]}}]
    assert app["mountPoints"] == [{"name": "a", "path": "/two"}]
    assert sorted(os.listdir(actool.directory)) == ["in.aci", "layout"]


def test_a_whole_manifest_is_replaced(actool: Tool, layout: str) -> None:
    actool.ok("build", "--no-compression", layout, "in.aci")
    write(os.path.join(actool.directory, "m"), json.dumps(aci.manifest("example.com/other")).encode())
    actool.ok("patch-manifest", "--manifest=m", "--no-compression", "in.aci", "out.aci")
    assert image_manifest(f"{actool.directory}/out.aci")["name"] == "example.com/other"
    with tarfile.open(f"{actool.directory}/out.aci", "r:") as tar:
        assert tar.next() is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in.aci"], "must provide input and output files (or use --replace)"),
        (["--replace", "in.aci", "out.aci"], "must provide one file"),
        (["--replace", "--overwrite", "in.aci"], "cannot use both --replace and --overwrite"),
        (["in.aci", "out.tar"], "extension must be .aci (given .tar)"),
        (["--manifest=m", "--name=x", "in.aci", "out.aci"], "incompatible with other manifest editing"),
        (["--isolators=os/linux/cpu-shares,5", "in.aci", "out.aci"], "not supported for patching"),
        (["--mounts=a,path=", "in.aci", "out.aci"], 'cannot parse mount point "a,path="'),
        (["--seccomp-set=read", "in.aci", "out.aci"], "a seccomp filter needs a mode and a set"),
        (["--name=Bad", "in.aci", "out.aci"], 'cannot parse name "Bad"'),
    ],
)
def test_what_patch_manifest_refuses(actool: Tool, layout: str, words: list[str], message: str) -> None:
    actool.ok("build", layout, "in.aci")
    with open(f"{actool.directory}/in.aci", "rb") as file:
        before = file.read()
    result = actool("patch-manifest", *words)
    assert result.code == 1
    assert result.err.startswith("patch-manifest: ")
    assert message in result.err
    assert sorted(os.listdir(actool.directory)) == ["in.aci", "layout"]
    with open(f"{actool.directory}/in.aci", "rb") as file:
        assert file.read() == before


def test_an_app_is_made_only_for_a_command(actool: Tool, layout: str) -> None:
    write_manifest(
        layout, {key: value for key, value in aci.manifest("example.com/a").items() if key != "app"}
    )
    actool.ok("build", layout, "in.aci")
    refused = actool("patch-manifest", "--user=0", "in.aci", "out.aci")
    assert "no app in the supplied manifest" in refused.err
    actool.ok("patch-manifest", "--exec=/bin/true", "--user=0", "--group=0", "in.aci", "out.aci")
    assert image_manifest(f"{actool.directory}/out.aci")["app"]["exec"] == ["/bin/true"]


def test_other_compressions_are_read(actool: Tool) -> None:
    for compression in ("bzip2", "xz", "none", "gzip"):
        path = os.path.join(actool.directory, f"{compression}.aci")
        aci.build(path, aci.manifest("example.com/x"), [aci.Entry("file", b"1")], compression=compression)
        actool.ok("validate", path)
        assert '"example.com/x"' in actool.ok("cat-manifest", path).out
        actool.ok("patch-manifest", "--replace", "--name=example.com/y", path)
        with gzip.open(path) as file:
            assert file.read(6) == b"rootfs"


def test_words(actool: Tool) -> None:
    assert actool.ok("version").out == "actool version 0.8.11\n"
    assert "patch-manifest" in actool.ok().out
    assert actool.ok("help").out == actool.ok("-h").out == actool.ok("--help").out
    assert "[--pretty-print] IMAGE.aci" in actool.ok("help", "cat-manifest").out
    assert actool.ok("help", "build").out == actool.ok("build", "-help").out
    unknown = actool("frobnicate")
    assert (unknown.code, unknown.err.splitlines()[0]) == (
        2,
        'actool: unknown command "frobnicate" for "actool"',
    )
    assert actool("build", "--bogus").code == 2
