"""acbuild: builds in steps, the files they make, and the images that come out."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tarfile
from typing import Any

import pytest

from support import aci
from support.driver import Rkt
from support.tools import Tool


@pytest.fixture
def acbuild(tmp_path: os.PathLike[str]) -> Tool:
    directory = os.path.join(tmp_path, "work")
    os.mkdir(directory)
    return Tool("acbuild", directory)


@pytest.fixture
def begun(acbuild: Tool) -> Tool:
    acbuild.ok("begin")
    return acbuild


def rootfs(acbuild: Tool, *names: str) -> str:
    return os.path.join(acbuild.directory, ".acbuild/currentaci/rootfs", *names)


def manifest(acbuild: Tool) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(acbuild.ok("cat-manifest").out)
    return value


def write(path: str, data: str) -> str:
    with open(path, "w") as file:
        file.write(data)
    return path


def image_manifest(path: str) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        file = tar.extractfile("manifest")
        assert file is not None
        value: dict[str, Any] = json.load(file)
        return value


class TestBegin:
    def test_empty(self, begun: Tool) -> None:
        assert manifest(begun) == {
            "acKind": "ImageManifest",
            "acVersion": "0.8.11",
            "name": "acbuild-unnamed",
            "labels": [{"name": "arch", "value": "amd64"}, {"name": "os", "value": "linux"}],
        }
        assert os.listdir(rootfs(begun)) == []

    def test_one_build_at_a_time(self, begun: Tool) -> None:
        again = begun("begin")
        assert (again.code, again.err) == (1, "begin: build already in progress in this working dir\n")
        begun.ok("end")
        assert os.listdir(begun.directory) == []
        refused = begun("set-name", "x")
        assert (refused.code, refused.err) == (
            1,
            'set-name: build not in progress in this working dir - try "acbuild begin"\n',
        )
        assert begun("end").code == 1

    def test_a_directory(self, acbuild: Tool) -> None:
        source = os.path.join(acbuild.directory, "source")
        os.makedirs(os.path.join(source, "etc"))
        write(os.path.join(source, "etc/motd"), "hello")
        os.chown(os.path.join(source, "etc/motd"), 5, 6)
        os.link(os.path.join(source, "etc/motd"), os.path.join(source, "etc/issue"))
        os.utime(os.path.join(source, "etc"), (1_500_000_000, 1_500_000_000))
        acbuild.ok("begin", "./source")
        found = os.stat(rootfs(acbuild, "etc/motd"))
        assert (found.st_uid, found.st_gid, found.st_nlink) == (5, 6, 2)
        assert os.stat(rootfs(acbuild, "etc")).st_mtime == 1_500_000_000

    def test_an_image(self, acbuild: Tool) -> None:
        aci.build(
            f"{acbuild.directory}/in.aci",
            aci.manifest("example.com/in"),
            [aci.directory("etc"), aci.Entry("etc/motd", b"hello", uid=7)],
            compression="gzip",
        )
        acbuild.ok("begin", "./in.aci")
        assert manifest(acbuild)["name"] == "example.com/in"
        assert os.stat(rootfs(acbuild, "etc/motd")).st_uid == 7

    def test_an_archive_of_a_root(self, acbuild: Tool) -> None:
        source = os.path.join(acbuild.directory, "source")
        os.makedirs(os.path.join(source, "etc"))
        write(os.path.join(source, "etc/motd"), "hello")
        subprocess.run(["tar", "-C", source, "-czf", f"{acbuild.directory}/root.tgz", "."], check=True)
        said = acbuild.ok("begin", f"{acbuild.directory}/root.tgz")
        assert "manifest file is missing, assuming build is beginning with a tar of a rootfs" in said.err
        assert os.listdir(rootfs(acbuild)) == ["etc"]
        assert manifest(acbuild)["name"] == "acbuild-unnamed"

    def test_an_image_that_leads_out_leaves_no_build(self, acbuild: Tool) -> None:
        outside = write(os.path.join(acbuild.directory, "outside"), "mine")
        aci.build(
            f"{acbuild.directory}/bad.aci",
            aci.manifest("example.com/bad"),
            [aci.symlink("out", acbuild.directory), aci.Entry("out/outside", b"theirs")],
        )
        result = acbuild("begin", "./bad.aci")
        assert not os.path.exists(os.path.join(acbuild.directory, ".acbuild")) or result.code == 0
        with open(outside) as file:
            assert file.read() == "mine"

    @pytest.mark.parametrize(
        ("start", "message"),
        [
            ("./nothing", "no such file or directory: ./nothing"),
            ("in.aci", 'paths begin with ".", "~" or "/"'),
            ("Bad Name", "invalid appc image string"),
        ],
    )
    def test_what_cannot_be_begun_with(self, acbuild: Tool, start: str, message: str) -> None:
        result = acbuild("begin", start)
        assert result.code == 1
        assert message in result.err
        assert not os.path.exists(os.path.join(acbuild.directory, ".acbuild"))

    def test_an_image_of_the_store(self, acbuild: Tool, rkt: Rkt, box: str) -> None:
        rkt.ok("fetch", "--insecure-options=image", box)
        acbuild.ok("begin", f"--store={rkt.dir}", "example.com/box:1")
        assert manifest(acbuild)["name"] == "example.com/box"
        assert os.path.exists(rootfs(acbuild, "bin/busybox"))

    def test_an_unsigned_container_image_needs_to_be_asked_for(self, acbuild: Tool) -> None:
        refused = acbuild("begin", "--build-mode=oci")
        assert (refused.code, "OCI images cannot be built" in refused.err) == (1, True)
        assert acbuild("layer").code == 1
        assert acbuild("--modify-oci=x", "set-user", "0").code == 1


class TestManifest:
    def test_every_step(self, begun: Tool) -> None:
        write(os.path.join(begun.directory, "memory"), '{"limit": "1G"}')
        for words in (
            ["set-name", "example.com/app"],
            ["label", "add", "version", "1.0"],
            ["label", "add", "version", "1.1"],
            ["annotation", "add", "authors", "somebody"],
            ["environment", "add", "A", "one two"],
            ["environment", "add", "B", "="],
            ["dependency", "add", "example.com/base:2,env=test", "--label", "os=linux", "--size", "7"],
            ["isolator", "add", "resource/memory", "memory"],
            ["mount", "add", "work", "/opt", "--read-only"],
            ["mount", "add", "data", "/data"],
            ["port", "add", "www", "tcp", "80", "--socket-activated", "--count=2"],
            ["set-exec", "--", "/bin/sh", "-c", "id"],
            ["set-event-handler", "pre-start", "--", "/bin/true", "-x"],
            ["set-user", "web"],
            ["set-group", "www"],
            ["set-supp-groups", "1", "2"],
            ["set-working-directory", "/srv"],
        ):
            begun.ok("--no-history", *words)
        found = manifest(begun)
        assert found["name"] == "example.com/app"
        assert {"name": "version", "value": "1.1"} in found["labels"]
        assert len(found["labels"]) == 3
        assert found["annotations"] == [{"name": "authors", "value": "somebody"}]
        assert found["dependencies"] == [
            {
                "imageName": "example.com/base",
                "labels": [
                    {"name": "env", "value": "test"},
                    {"name": "os", "value": "linux"},
                    {"name": "version", "value": "2"},
                ],
                "size": 7,
            }
        ]
        assert found["app"] == {
            "exec": ["/bin/sh", "-c", "id"],
            "eventHandlers": [{"name": "pre-start", "exec": ["/bin/true", "-x"]}],
            "user": "web",
            "group": "www",
            "supplementaryGIDs": [1, 2],
            "workingDirectory": "/srv",
            "environment": [{"name": "A", "value": "one two"}, {"name": "B", "value": "="}],
            "mountPoints": [
                {"name": "work", "path": "/opt", "readOnly": True},
                {"name": "data", "path": "/data"},
            ],
            "ports": [{"name": "www", "protocol": "tcp", "port": 80, "count": 2, "socketActivated": True}],
            "isolators": [{"name": "resource/memory", "value": {"limit": "1G"}}],
        }

    @pytest.mark.parametrize(
        ("add", "remove"),
        [
            (["label", "add", "a", "b"], ["label", "remove", "a"]),
            (["annotation", "add", "a", "b"], ["annotation", "rm", "a"]),
            (["environment", "add", "A", "b"], ["env", "rm", "A"]),
            (["dependency", "add", "a"], ["dep", "remove", "a"]),
            (["isolator", "add", "os/linux/oom-score-adj", "-"], ["iso", "rm", "os/linux/oom-score-adj"]),
            (["mount", "add", "a", "/b"], ["mount", "remove", "a"]),
            (["volume", "add", "a", "/b"], ["vol", "remove", "/b"]),
            (["port", "add", "a", "udp", "53"], ["port", "remove", "a"]),
            (["port", "add", "a", "udp", "53"], ["port", "remove", "53"]),
        ],
    )
    def test_what_is_added_can_be_removed_once(self, begun: Tool, add: list[str], remove: list[str]) -> None:
        begun.ok("--no-history", "set-user", "0")
        before = manifest(begun)
        begun.ok("--no-history", *add, input="5")
        assert manifest(begun) != before
        begun.ok("--no-history", *remove)
        assert manifest(begun) == before
        again = begun("--no-history", *remove)
        assert again.code == 2
        assert again.err.endswith("element to be removed does not exist in this ACI\n")

    def test_mounts_are_replaced_by_name_and_by_path(self, begun: Tool) -> None:
        for name, path in (("a", "/one"), ("b", "/two"), ("c", "/two"), ("a", "/two")):
            begun.ok("mount", "add", name, path)
        assert manifest(begun)["app"]["mountPoints"] == [{"name": "a", "path": "/two"}]

    def test_aliases_and_prefixes(self, begun: Tool) -> None:
        begun.ok("set-wd", "/srv")
        begun.ok("set-eh", "post-stop", "/bin/true")
        begun.ok("anno", "a", "x", "y")
        assert manifest(begun)["app"]["workingDirectory"] == "/srv"
        ambiguous = begun("set", "x")
        assert (ambiguous.code, "ambiguous command" in ambiguous.err) == (1, True)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["set-name", "Bad"], "ACIdentifier"),
            (["label", "add", "name", "x"], "label name"),
            (["label", "add", "arch", "z80"], 'bad arch "z80"'),
            (["label", "add", "version"], "incorrect number of arguments"),
            (["environment", "add", "1A", "x"], "valid name"),
            (["port", "add", "a", "icmp", "1"], 'invalid protocol "icmp"'),
            (["port", "add", "a", "tcp", "65536"], "65536"),
            (["port", "add", "a", "tcp", "65535", "--count=2"], "port"),
            (["mount", "add", "a", "relative"], "absolute"),
            (["set-working-directory", "relative"], "absolute"),
            (["set-supp-groups", "x"], '"x" is not a number'),
            (["set-event-handler", "pre-stop", "x"], 'unknown event "pre-stop"'),
            (["isolator", "add", "resource/memory", "-"], "resource/memory"),
            (["isolator", "add", "unknown/one", "-"], "unknown/one"),
            (["dependency", "add", "a", "--label", "os"], "no '=' character"),
            (["dependency", "add", "a:1", "--label", "version=2"], "multiple version labels"),
            (["dependency", "add", "a", "--image-id", "md5-1"], "md5"),
            (["replace-manifest", "/dev/null"], ""),
            (["frobnicate"], 'unknown command "frobnicate" for "acbuild"'),
            (["label"], ""),
        ],
    )
    def test_what_is_refused_changes_nothing(self, begun: Tool, words: list[str], message: str) -> None:
        before = manifest(begun)
        result = begun(*words, input="5")
        assert words == ["label"] or result.code == 1, result
        assert message in result.err
        assert manifest(begun) == before

    def test_an_isolator_is_json(self, begun: Tool) -> None:
        refused = begun("isolator", "add", "resource/cpu", "-", input="not json")
        assert (refused.code, "invalid JSON" in refused.err) == (1, True)

    def test_history(self, begun: Tool) -> None:
        begun.ok("set-name", "example.com/a")
        begun.ok("env", "add", "A", 'with "quotes"')
        begun.ok("cat-manifest")
        begun("set-name", "Bad")
        begun.ok("--no-history", "set-user", "1")
        assert [(one["name"], one["value"]) for one in manifest(begun)["annotations"]] == [
            ("coreos.com/acbuild/command-1", 'acbuild set-name "example.com/a"'),
            ("coreos.com/acbuild/command-2", 'acbuild environment add "A" "with \\"quotes\\""'),
        ]

    def test_replace_manifest(self, begun: Tool) -> None:
        write(os.path.join(begun.directory, "m"), json.dumps(aci.manifest("example.com/other")))
        begun.ok("--no-history", "replace-manifest", "m")
        assert manifest(begun) == aci.manifest("example.com/other")

    def test_a_build_is_locked(self, begun: Tool) -> None:
        fd = os.open(os.path.join(begun.directory, ".acbuild"), os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            refused = begun("set-name", "x")
        finally:
            os.close(fd)
        assert (refused.code, "lock already held" in refused.err) == (1, True)
        begun.ok("set-name", "x")

    def test_what_a_crash_may_leave_is_tidied(self, begun: Tool) -> None:
        begun.ok("set-name", "example.com/a")
        write(os.path.join(begun.directory, ".acbuild/currentaci/manifest.new"), "half a mani")
        begun.ok("write", "out.aci")
        Tool("actool", begun.directory).ok("validate", "out.aci")
        os.unlink(os.path.join(begun.directory, ".acbuild/currentaci/manifest"))
        broken = begun("set-name", "x")
        assert (broken.code, "is not complete" in broken.err) == (1, True)
        begun.ok("end")


class TestCopy:
    def test_trees_and_files(self, begun: Tool) -> None:
        source = os.path.join(begun.directory, "source")
        os.makedirs(os.path.join(source, "sub"))
        write(os.path.join(source, "sub/file"), "one")
        os.link(os.path.join(source, "sub/file"), os.path.join(source, "again"))
        os.symlink("sub/file", os.path.join(source, "link"))
        os.mkfifo(os.path.join(source, "fifo"), 0o600)
        os.setxattr(os.path.join(source, "sub/file"), "user.a", b"b")
        os.chmod(os.path.join(source, "sub/file"), 0o4711)
        os.chmod(os.path.join(source, "sub"), 0o2775)
        begun.ok("copy", "source", "/usr/share/thing")
        made = rootfs(begun, "usr/share/thing")
        wanted = subprocess.run(["cp", "-a", source, f"{begun.directory}/wanted"], check=True)
        assert wanted.returncode == 0
        for name in ("", "sub", "sub/file", "again", "link", "fifo"):
            one, two = (os.lstat(os.path.join(tree, name)) for tree in (made, f"{begun.directory}/wanted"))
            assert (one.st_mode, one.st_nlink, one.st_mtime_ns) == (
                two.st_mode,
                two.st_nlink,
                two.st_mtime_ns,
            )
        assert os.getxattr(f"{made}/sub/file", "user.a") == b"b"
        assert os.stat(rootfs(begun, "usr")).st_mode & 0o7777 == 0o755

    def test_what_is_there_is_filled_and_replaced(self, begun: Tool) -> None:
        os.makedirs(os.path.join(begun.directory, "one/d"))
        os.makedirs(os.path.join(begun.directory, "two/d"), mode=0o700)
        write(os.path.join(begun.directory, "one/d/a"), "old")
        write(os.path.join(begun.directory, "one/d/b"), "kept")
        write(os.path.join(begun.directory, "two/d/a"), "new")
        os.chmod(os.path.join(begun.directory, "one/d"), 0o751)
        begun.ok("copy", "one", "/")
        begun.ok("copy", "two", "/")
        assert sorted(os.listdir(rootfs(begun, "d"))) == ["a", "b"]
        with open(rootfs(begun, "d/a")) as file:
            assert file.read() == "new"
        assert os.stat(rootfs(begun, "d")).st_mode & 0o7777 == 0o751

    def test_copy_to_dir(self, begun: Tool) -> None:
        os.makedirs(os.path.join(begun.directory, "tree/in"))
        write(os.path.join(begun.directory, "file"), "x")
        begun.ok("copy-to-dir", "file", "tree", "/opt")
        assert sorted(os.listdir(rootfs(begun, "opt"))) == ["file", "tree"]
        begun.ok("copy-to-dir", "tree/", "/opt/else")
        assert os.listdir(rootfs(begun, "opt/else")) == ["in"]
        refused = begun("copy-to-dir", "file", "/opt/file")
        assert (refused.code, 'target "/opt/file" is not a directory' in refused.err) == (1, True)

    @pytest.mark.promise("P4")
    def test_links_of_the_image_stay_in_the_image(self, begun: Tool) -> None:
        outside = os.path.join(begun.directory, "outside")
        os.mkdir(outside)
        write(os.path.join(begun.directory, "file"), "x")
        os.makedirs(os.path.join(begun.directory, "tree/lib"))
        write(os.path.join(begun.directory, "tree/lib/y"), "y")
        os.makedirs(rootfs(begun, "usr/lib"))
        os.symlink("usr/lib", rootfs(begun, "lib"))
        os.symlink(outside, rootfs(begun, "out"))
        os.symlink("../../../../../../.." + outside, rootfs(begun, "up"))
        begun.ok("copy", "file", "/lib/x")
        begun.ok("copy", "tree", "/")
        assert sorted(os.listdir(rootfs(begun, "usr/lib"))) == ["x", "y"]
        for name in ("out", "up"):
            begun("copy", "file", f"/{name}/x")
            begun("copy-to-dir", "file", f"/{name}")
            begun("copy", "tree", f"/{name}")
        begun("copy", "file", "/../../../outside/x")
        assert os.listdir(outside) == []

    def test_what_cannot_be_copied(self, begun: Tool) -> None:
        os.mkdir(os.path.join(begun.directory, "tree"))
        write(os.path.join(begun.directory, "file"), "x")
        begun.ok("copy", "file", "/file")
        begun.ok("copy", "tree", "/tree")
        assert "not a directory" in begun("copy", "tree", "/file").err
        assert "is a directory" in begun("copy", "file", "/tree").err
        assert "nothing: no such file or directory" in begun("copy", "nothing", "/x").err
        assert begun("copy", "file").code == 1
        begun.ok("copy", "file", "/file")


class TestWrite:
    def test_what_comes_out(self, begun: Tool, rkt: Rkt) -> None:
        shutil.copy(aci.BUSYBOX, os.path.join(begun.directory, "busybox"))
        begun.ok("copy", "busybox", "/bin/sh")
        nameless = begun("write", "out.aci")
        assert (nameless.code, nameless.err) == (1, "write: can't write ACI, name was never set\n")
        begun.ok("set-name", "example.com/made")
        begun.ok("set-user", "0")
        assert begun.ok("write", "out.aci").err == "warning: exec command was never set.\n"
        begun.ok("set-exec", "--", "/bin/sh", "-c", "echo made")
        again = begun("write", "out.aci")
        assert (again.code, again.err) == (1, "write: ACI already exists: out.aci\n")
        identity = begun.ok("write", "--overwrite", "out.aci").out.strip()
        out = os.path.join(begun.directory, "out.aci")
        key = rkt.ok("fetch", "--insecure-options=image", out).lines[-1]
        assert identity.startswith(key)
        assert len(identity) == len("sha512-") + 128
        result = rkt.ok("run", "--insecure-options=image", "--net=none", out)
        assert "made" in result.out
        begun.ok("end")
        assert sorted(os.listdir(begun.directory)) == ["busybox", "out.aci"]

    def test_a_target_that_cannot_be_written(self, begun: Tool) -> None:
        begun.ok("set-name", "x")
        assert "no such file or directory" in begun("write", "missing/out.aci").err


class TestModify:
    def test_one_step_on_an_image(self, acbuild: Tool) -> None:
        image = os.path.join(acbuild.directory, "in.aci")
        aci.build(image, aci.manifest("example.com/in"), [aci.Entry("file", b"x", uid=3)])
        acbuild.ok("--modify-appc=in.aci", "set-name", "example.com/out")
        found = image_manifest(image)
        assert found["name"] == "example.com/out"
        assert found["annotations"][0]["value"] == 'acbuild set-name "example.com/out"'
        assert (
            acbuild.ok("--modify-appc", "in.aci", "cat-manifest").out
            == json.dumps(found, separators=(",", ":")) + "\n"
        )
        write(os.path.join(acbuild.directory, "more"), "y")
        acbuild.ok("--modify=in.aci", "copy", "more", "/more")
        with tarfile.open(image) as tar:
            assert {"rootfs/file", "rootfs/more"} <= set(tar.getnames())
            assert tar.getmember("rootfs/file").uid == 3
        assert sorted(os.listdir(acbuild.directory)) == ["in.aci", "more"]

    def test_a_step_that_fails_changes_nothing(self, acbuild: Tool) -> None:
        image = os.path.join(acbuild.directory, "in.aci")
        aci.build(image, aci.manifest("example.com/in"))
        with open(image, "rb") as file:
            before = file.read()
        assert acbuild("--modify-appc=in.aci", "label", "remove", "none").code == 2
        assert acbuild("--modify-appc=in.aci", "begin").code == 1
        assert "doesn't appear to exist" in acbuild("--modify-appc=no.aci", "set-name", "x").err
        assert "is a directory" in acbuild("--modify-appc=.", "set-name", "x").err
        with open(image, "rb") as file:
            assert file.read() == before
        assert os.listdir(acbuild.directory) == ["in.aci"]


class TestScript:
    def test_a_whole_build(self, acbuild: Tool) -> None:
        write(os.path.join(acbuild.directory, "motd"), "hello\n")
        write(
            os.path.join(acbuild.directory, "build.acb"),
            "# a build\n"
            "BEGIN\n"
            "set-name example.com/scripted\n"
            "set-exec /bin/sh -c 'echo \"it works\"' # a comment\n"
            "env add GREETING \\\n"
            "    hello\\ world\n"
            "copy motd /etc/motd\n"
            "\n"
            "write out.aci\n",
        )
        result = acbuild.ok("script", "build.acb")
        assert result.out.startswith("sha512-")
        found = image_manifest(os.path.join(acbuild.directory, "out.aci"))
        assert found["app"]["exec"] == ["/bin/sh", "-c", 'echo "it works"']
        assert found["app"]["environment"] == [{"name": "GREETING", "value": "hello world"}]
        assert len(found["annotations"]) == 4
        assert sorted(os.listdir(acbuild.directory)) == ["build.acb", "motd", "out.aci"]

    def test_by_its_first_line(self, acbuild: Tool) -> None:
        link = os.path.join(acbuild.directory, "acbuild-script")
        os.symlink(acbuild.program, link)
        script = write(os.path.join(acbuild.directory, "s"), f"#!{link}\nbegin\nset-name a\nwrite a.aci\n")
        os.chmod(script, 0o755)
        subprocess.run([script], check=True, cwd=acbuild.directory)
        assert image_manifest(os.path.join(acbuild.directory, "a.aci"))["name"] == "a"

    def test_a_script_in_a_script(self, acbuild: Tool) -> None:
        write(os.path.join(acbuild.directory, "inner"), "set-name example.com/inner\n")
        write(os.path.join(acbuild.directory, "outer"), "begin\nscript inner\nwrite out.aci\n")
        acbuild.ok("script", "outer")
        assert image_manifest(f"{acbuild.directory}/out.aci")["name"] == "example.com/inner"

    @pytest.mark.parametrize(
        ("text", "code", "message"),
        [
            ("begin\nend\n", 1, "line 2: calling end is unnecessary in a script"),
            ("begin\nset-name 'x\n", 1, "line 2: unterminated single quote block"),
            ("begin\nlabel remove none\nwrite out.aci\n", 2, "label remove none failed with exit code 2"),
            ("begin\nset-name Bad\n", 1, "set-name Bad failed"),
            ("set-name x\n", 1, "build not in progress"),
            ("begin\nbogus\n", 1, "unknown command"),
        ],
    )
    def test_a_script_that_fails(self, acbuild: Tool, text: str, code: int, message: str) -> None:
        write(os.path.join(acbuild.directory, "s"), text)
        result = acbuild("script", "s")
        assert result.code == code, result
        assert message in result.err
        assert os.listdir(acbuild.directory) == ["s"]


def test_work_path(acbuild: Tool) -> None:
    acbuild.ok("--work-path=deep/er", "begin")
    acbuild.ok("--work-path", "deep/er", "set-name", "x")
    assert os.path.isdir(f"{acbuild.directory}/deep/er/.acbuild")
    acbuild.ok("end", "--work-path=deep/er")
    assert os.listdir(f"{acbuild.directory}/deep/er") == []


def test_words(acbuild: Tool) -> None:
    assert acbuild.ok("version").out.startswith("acbuild version ")
    assert "environment add" in acbuild.ok().out
    assert acbuild.ok("help").out == acbuild.ok("--help").out
    assert "add" in acbuild.ok("label").out
    assert acbuild.ok("help", "label", "add").out == acbuild.ok("label", "add", "-h").out
    assert acbuild("begin", "--bogus").code == 1


def test_manual_pages(acbuild: Tool) -> None:
    acbuild.ok("gen-man-pages", "man")
    pages = os.listdir(f"{acbuild.directory}/man")
    assert {"acbuild.1", "acbuild-run.1", "acbuild-label-add.1"} <= set(pages)
    for page in pages:
        done = (
            subprocess.run(
                ["man", "--warnings", "-l", f"{acbuild.directory}/man/{page}"],
                capture_output=True,
                check=False,
                env={"PATH": "/usr/bin:/bin", "MANPAGER": "cat", "LANG": "C.UTF-8"},
            )
            if shutil.which("man")
            else None
        )
        assert done is None or done.stderr == b""
