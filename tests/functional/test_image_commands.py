"""The image commands as users call them: what they print, their exit codes, what they leave.  Needs root."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import tempfile
import time

import pytest

from support import aci, oci
from support.driver import Rkt
from support.waiting import PATIENCE

AGE = r"(now|\d+ (second|minute)s? ago)"
INSECURE = "--insecure-options=image"


@pytest.fixture
def images(tmp_path: os.PathLike[str]) -> str:
    path = os.path.join(os.fspath(tmp_path), "images")
    os.mkdir(path)
    return path


def small(directory: str, name: str = "example.com/small", **members: object) -> str:
    path = os.path.join(directory, name.replace("/", "-") + ".aci")
    return aci.build(path, aci.manifest(name, **members), [aci.Entry("f", b"content\n" * 1000)])


def key_of(path: str) -> str:
    with open(path, "rb") as file:
        return "sha512-" + hashlib.sha512(file.read()).hexdigest()[:64]


def files_below(directory: str) -> set[str]:
    found = set()
    for parent, _, names in os.walk(directory):
        found.update(os.path.relpath(os.path.join(parent, name), directory) for name in names)
    return found


class TestFetch:
    def test_ids_in_order(self, rkt: Rkt, images: str, box: str) -> None:
        one, two = small(images), small(images, "example.com/two")
        result = rkt.ok(INSECURE, "fetch", one, two, box)
        assert result.out == "".join(f"{key_of(path)[:39]}\n" for path in (one, two, box))
        assert result.err == ""
        assert rkt.ok(INSECURE, "fetch", "--full", one).out == key_of(one) + "\n"
        assert rkt.ok(INSECURE, "image", "fetch", "--full", "file://" + one).out == key_of(one) + "\n"

    def test_words(self, rkt: Rkt) -> None:
        for words, message in (
            ([], "fetch: must provide at least one image"),
            (["/nonexistent.aci"], "fetch: open /nonexistent.aci.asc: no such file or directory"),
            (
                ["not a name!"],
                (
                    'fetch: invalid appc image string "not a name!": ACIdentifier must contain only '
                    'lower case alphanumeric characters plus "-._~/"'
                ),
            ),
            (["--store-only", "--no-store", "x"], "fetch: both --store-only and --no-store specified"),
        ):
            result = rkt("fetch", *words)
            assert (result.code, result.out) == (254, "")
            assert result.err.splitlines()[-1] == message
        result = rkt(INSECURE, "fetch", "/nonexistent.aci")
        assert result.err == "fetch: open /nonexistent.aci: no such file or directory\n"
        assert result.code == 254

    def test_tree_is_made_for_root(self, rkt: Rkt, images: str) -> None:
        rkt.ok(INSECURE, "fetch", small(images))
        assert len(os.listdir(os.path.join(rkt.dir, "cas/tree"))) == 1

    @pytest.mark.promise("P3")
    @pytest.mark.attack(33)
    def test_every_truncation_leaves_the_store_as_it_was(self, rkt: Rkt, images: str) -> None:
        rkt.ok(INSECURE, "fetch", small(images))
        before = files_below(rkt.dir)
        path = os.path.join(images, "cut.aci")
        aci.build(
            path, aci.manifest("example.com/cut"), [aci.Entry("f", os.urandom(40_000))], compression="gzip"
        )
        with open(path, "rb") as file:
            data = file.read()
        for length in range(0, len(data), 4096):
            with open(path, "wb") as file:
                file.write(data[:length])
            result = rkt(INSECURE, "fetch", path)
            assert (result.code, result.out) == (254, "")
            assert len(result.err.splitlines()) == 1
            assert result.err.startswith(f'fetch: image "{path}" cannot be imported: ')
        assert files_below(rkt.dir) == before

    @pytest.mark.promise("P6")
    def test_killed_fetches_leave_only_what_gc_collects(self, rkt: Rkt, images: str) -> None:
        path = os.path.join(images, "big.aci")
        aci.build(
            path, aci.manifest("example.com/big"), [aci.Entry("f", os.urandom(30 << 20))], compression="gzip"
        )
        rkt.ok(INSECURE, "fetch", small(images))
        for delay in (0.05, 0.1, 0.15, 0.2, 0.3):
            process = rkt.start(INSECURE, "fetch", path)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        rkt.ok("image", "list")
        rkt.ok("image", "gc")
        assert os.listdir(os.path.join(rkt.dir, "cas/tmp")) == []
        assert len(rkt.ok(INSECURE, "fetch", path).out) == 40
        assert len(rkt.ok("image", "list", "--no-legend").lines) == 2
        rkt.ok("image", "gc", "--grace-period=0s")
        assert files_below(rkt.dir) == {"cas/db/index.sqlite3", "locks/prepareLock"}

    @pytest.mark.promise("P6")
    def test_full_disk_leaves_nothing(self, rkt: Rkt, images: str) -> None:
        path = os.path.join(images, "big.aci")
        aci.build(path, aci.manifest("example.com/big"), [aci.Entry("f", os.urandom(3 << 20))])
        os.mkdir(rkt.dir)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs", rkt.dir], check=True)
        try:
            result = rkt(INSECURE, "fetch", path)
            assert (result.code, result.out) == (254, "")
            assert result.err == f'fetch: image "{path}" cannot be imported: no space left on device\n'
            assert files_below(rkt.dir) == set()
            # The image fits, its tree does not: whichever had no space left first, there is no part of one.
            aci.build(path, aci.manifest("example.com/big"), [aci.Entry("f", os.urandom(1100 << 10))])
            result = rkt(INSECURE, "fetch", path)
            assert result.code == 254
            assert "no space left on device" in result.err
            assert os.listdir(os.path.join(rkt.dir, "cas/tree")) == []
            listed = rkt.ok("image", "list", "--no-legend", "--fields=name").out
            assert listed in ("\n", "example.com/big:1\n")
            rkt.ok(INSECURE, "fetch", small(images))
            # Not a byte is left: the image can be had, no other comes, and what frees space works.
            with pytest.raises(OSError, match="No space left"), open(f"{rkt.dir}/fill", "wb", 0) as file:
                while True:
                    file.write(bytes(4096))
            rkt.ok("image", "export", "example.com/small", os.path.join(images, "exported.aci"))
            inside = os.path.join(rkt.dir, "exported.aci")
            result = rkt("image", "export", "example.com/small", inside)
            assert (result.code, result.err) == (254, f"export: write {inside}: no space left on device\n")
            layout = oci.Layout(os.path.join(images, "layout"))
            layout.image("v1", [oci.Layer(oci.tar([oci.file("f", os.urandom(100_000))]))])
            result = rkt(INSECURE, "fetch", f"oci:{layout.path}:v1")
            assert result.code == 254
            assert result.err.startswith(f'fetch: image "oci:{layout.path}:v1" cannot be imported: ')
            assert result.err.endswith("no space left on device\n")
            rkt.ok("image", "gc", "--grace-period=0s")
            assert files_below(rkt.dir) == {"cas/db/index.sqlite3", "locks/prepareLock", "fill"}
        finally:
            subprocess.run(["umount", rkt.dir], check=True)

    def test_read_only_store_can_be_read(self, rkt: Rkt, images: str) -> None:
        rkt.ok(INSECURE, "fetch", small(images))
        # So long ago that its use would be noted.
        with contextlib.closing(sqlite3.connect(os.path.join(rkt.dir, "cas/db/index.sqlite3"))) as db:
            db.execute("UPDATE aciinfo SET lastused = 0")
            db.commit()
        subprocess.run(["mount", "--bind", rkt.dir, rkt.dir], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", rkt.dir], check=True)
            rkt.ok("image", "export", "example.com/small", os.path.join(images, "exported.aci"))
            rkt.ok("image", "extract", "example.com/small", os.path.join(images, "extracted"))
            assert rkt.ok("fetch", "--pull-policy=never", "--insecure-options=image", "example.com/small").out
        finally:
            subprocess.run(["umount", rkt.dir], check=True)

    def test_read_only_directory_is_named(self, rkt: Rkt, images: str) -> None:
        os.mkdir(rkt.dir)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", rkt.dir], check=True)
        try:
            path = small(images)
            result = rkt(INSECURE, "fetch", path)
            assert (result.code, result.out) == (254, "")
            assert result.err == (
                f'fetch: image "{path}" cannot be imported: mkdir {rkt.dir}/cas: read-only file system\n'
            )
        finally:
            subprocess.run(["umount", rkt.dir], check=True)

    def test_many_at_once(self, rkt: Rkt, images: str) -> None:
        paths = [small(images, f"example.com/{number % 3}") for number in range(6)]
        running = [rkt.start(INSECURE, "fetch", "--full", path) for path in paths]
        running.append(rkt.start("image", "gc"))
        for path, process in zip([*paths, ""], running, strict=True):
            out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, err
            assert path == "" or out == key_of(path) + "\n"
        assert len(rkt.ok("image", "list", "--no-legend").lines) == 3


class TestList:
    def test_empty(self, rkt: Rkt) -> None:
        assert rkt.ok("image", "list").out == "ID\tNAME\tSIZE\tIMPORT TIME\tLAST USED\n"
        assert rkt.ok("image", "list", "--no-legend").out == "\n"
        assert rkt.ok("image", "list", "--format=json").out == "null\n"
        assert not os.path.exists(rkt.dir)

    def test_table(self, rkt: Rkt, images: str) -> None:
        path = small(images)
        rkt.ok(INSECURE, "fetch", path)
        (tree,) = os.listdir(os.path.join(rkt.dir, "cas/tree"))
        root = os.path.join(rkt.dir, "cas/tree", tree)
        size = os.path.getsize(path) + os.lstat(root).st_size
        for parent, directories, names in os.walk(root):
            size += sum(os.lstat(os.path.join(parent, name)).st_size for name in (*directories, *names))
        header, line = rkt.ok("image", "list").lines
        assert header == "ID\t\t\tNAME\t\t\tSIZE\tIMPORT TIME\tLAST USED"
        assert re.fullmatch(
            rf"{key_of(path)[:19]}\texample\.com/small:1\t\d+KiB\t{AGE}\t+{AGE}",
            line,
        )
        line = rkt.ok("image", "list", "--full", "--no-legend", "--fields=id,size,name").out
        assert line == f"{key_of(path)}\t{size}\texample.com/small:1\n"
        full = rkt.ok("image", "list", "--full", "--no-legend", "--fields=importtime").out
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,3})? [+-]\d{4} \w+\n", full)
        (value,) = json.loads(rkt.ok("image", "list", "--format=json-pretty").out)
        assert list(value) == ["id", "name", "import_time", "last_used_time", "size"]
        assert (value["id"], value["name"], value["size"]) == (key_of(path), "example.com/small:1", size)

    def test_order(self, rkt: Rkt, images: str) -> None:
        for name in ("example.com/b", "example.com/a", "example.com/c"):
            rkt.ok(INSECURE, "fetch", small(images, name, labels=[]))

        def names(*words: str) -> list[str]:
            return rkt.ok("image", "list", "--no-legend", "--fields=name", *words).lines

        assert names() == ["example.com/b", "example.com/a", "example.com/c"]
        assert names("--sort=name") == ["example.com/a", "example.com/b", "example.com/c"]
        assert names("--sort=size,name", "--order=desc") == [
            "example.com/c",
            "example.com/b",
            "example.com/a",
        ]
        result = rkt("image", "list", "--fields=bogus")
        assert result.code == 254
        assert 'invalid argument "bogus" for --fields=bogus: unknown option "bogus"' in result.err


class TestOneImage:
    def test_manifest(self, rkt: Rkt, images: str) -> None:
        path = small(images)
        rkt.ok(INSECURE, "fetch", path)
        pretty = rkt.ok("image", "cat-manifest", "example.com/small").out
        assert pretty.startswith(
            '{\n\t"acKind": "ImageManifest",\n\t"acVersion": "0.8.11",\n\t"name": "example.com/small",\n'
        )
        flat = rkt.ok("image", "cat-manifest", "--pretty-print=false", key_of(path)[:12]).out
        assert flat.count("\n") == 1
        assert json.loads(flat) == json.loads(pretty)

    def test_unknown_image(self, rkt: Rkt) -> None:
        message = 'cannot find aci satisfying name: "nosuch" and labels: [] in the local store'
        for words in (
            ["cat-manifest", "nosuch"],
            ["export", "nosuch", "x.aci"],
            ["extract", "nosuch", "x"],
            ["render", "nosuch", "x"],
            ["verify", "nosuch"],
        ):
            result = rkt("image", *words)
            assert (result.code, result.out, result.err) == (254, "", f"{words[0]}: {message}\n")
        result = rkt("image", "rm", "nosuch")
        assert (result.code, result.out, result.err) == (0, "", f"rm: {message}\n")
        result = rkt("image", "rm", "sha512-00")
        assert (result.code, result.err) == (0, 'rm: no image IDs found for "sha512-00"\n')
        assert not os.path.exists("x.aci")

    def test_wrong_number_of_words(self, rkt: Rkt) -> None:
        for words in (["cat-manifest"], ["export", "x"], ["extract", "x"], ["render", "a", "b", "c"]):
            result = rkt("image", *words)
            assert result.code == 254
            assert "USAGE:" in result.out
        assert rkt("image", "rm").err == "rm: must provide at least one image ID\n"
        assert rkt("image", "verify").err == "verify: must provide at least one image ID\n"

    def test_export(self, rkt: Rkt, images: str) -> None:
        source = os.path.join(images, "source.aci")
        plain = small(images)
        with open(plain, "rb") as file:
            data = file.read()
        aci.build(
            source, aci.manifest("example.com/small"), [aci.Entry("f", b"content\n" * 1000)], compression="xz"
        )
        rkt.ok(INSECURE, "fetch", source)
        out = os.path.join(images, "out")
        rkt.ok("image", "export", "example.com/small", out)
        with open(out, "rb") as file:
            assert file.read() == data
        result = rkt("image", "export", "example.com/small", out)
        assert (result.code, result.err) == (
            254,
            f"export: output ACI file exists (try --overwrite): {out}\n",
        )
        os.truncate(out, 0)
        rkt.ok("image", "export", "--overwrite", "example.com/small", out)
        assert os.path.getsize(out) == len(data)
        assert (
            subprocess.run(
                rkt.argv("image", "export", "--overwrite", "example.com/small", "/dev/stdout"),
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            == data
        )
        result = rkt("image", "export", "example.com/small", "/nonexistent/out")
        assert result.code == 254
        assert result.err == "export: open /nonexistent/out: no such file or directory\n"

    def test_extract_and_render(self, rkt: Rkt, images: str) -> None:
        base = small(images, "example.com/base")
        top = aci.build(
            os.path.join(images, "top.aci"),
            aci.manifest("example.com/top", dependencies=[{"imageName": "example.com/base"}]),
            [aci.Entry("top", b"top", mode=0o4755, uid=5)],
        )
        rkt.ok(INSECURE, "fetch", base, top)
        out = os.path.join(images, "deep", "out")
        rkt.ok("image", "extract", "example.com/top", out)
        assert files_below(out) == {"manifest", "rootfs/top"}
        status = os.stat(os.path.join(out, "rootfs/top"))
        assert (status.st_mode & 0o7777, status.st_uid) == (0o4755, 5)
        result = rkt("image", "extract", "example.com/top", out)
        assert (result.code, result.err) == (
            254,
            f"extract: output directory exists (try --overwrite): {out}\n",
        )
        rkt.ok("image", "extract", "--overwrite", "--rootfs-only", "example.com/top", out)
        assert files_below(out) == {"top"}
        rkt.ok("image", "render", "--overwrite", "example.com/top", out)
        assert files_below(out) == {"manifest", "rootfs/top", "rootfs/f"}
        assert os.stat(os.path.join(out, "manifest")).st_mode & 0o7777 == 0o700
        rkt.ok("image", "render", "--overwrite", "--rootfs-only", "example.com/top", out)
        assert files_below(out) == {"top", "f"}
        assert os.listdir(os.path.dirname(out)) == ["out"]

    @pytest.mark.parametrize("verb", ["extract", "render"])
    def test_root_directory_is_refused(self, rkt: Rkt, images: str, verb: str) -> None:
        rkt.ok(INSECURE, "fetch", small(images))
        os.symlink("/", os.path.join(images, "link"))
        for path in ("/", "//", "/..", os.path.join(images, "link")):
            result = rkt("image", verb, "--overwrite", "example.com/small", path)
            assert result.code == 254
            assert result.err == f"{verb}: this would delete your root filesystem. Refusing.\n"
        # Nor the store itself, what it is in, or what is in it.
        os.symlink(rkt.dir, os.path.join(images, "data"))
        places = ("", "/cas/..", "/..", "/pods", "/new/directory")
        for path in (*(rkt.dir + place for place in places), os.path.join(images, "data")):
            result = rkt("image", verb, "--overwrite", "example.com/small", path)
            assert result.code == 254
            assert result.err == f"{verb}: {path} holds, or is in, the data directory {rkt.dir}. Refusing.\n"
        assert len(rkt.ok("image", "list", "--no-legend").lines) == 1

    def test_failed_extraction_leaves_what_was_there(self, rkt: Rkt, images: str) -> None:
        path = small(images)
        rkt.ok(INSECURE, "fetch", path)
        blob = os.path.join(rkt.dir, "cas/blob/sha512", key_of(path)[7:9], key_of(path))
        with open(blob, "r+b") as file:
            file.seek(1024 + 600)
            file.write(b"XXXX")
        out = os.path.join(images, "out")
        os.mkdir(out)
        with open(os.path.join(out, "mine"), "w"):
            pass
        for verb in ("extract", "render"):
            result = rkt("image", verb, "--overwrite", "example.com/small", out)
            assert result.code == 254
            assert "damaged" in result.err
            assert files_below(out) == {"mine"}
        assert sorted(os.listdir(images)) == ["example.com-small.aci", "out"]

    def test_verify(self, rkt: Rkt, images: str) -> None:
        path = small(images)
        rkt.ok(INSECURE, "fetch", path)
        (tree,) = os.listdir(os.path.join(rkt.dir, "cas/tree"))
        sound = f'successfully verified checksum for image: "example.com/small" ("{key_of(path)}")\n'
        assert rkt.ok("image", "verify", "example.com/small").out == sound
        with open(os.path.join(rkt.dir, "cas/tree", tree, "rootfs/f"), "w") as file:
            file.write("changed")
        result = rkt.ok("image", "verify", "example.com/small")
        assert result.out.startswith(
            "tree cache verification failed for image example.com/small: wrong tree hash: "
        )
        assert result.err == "verify: tree cache is in a bad state. Rebuilding...\n"
        assert rkt.ok("image", "verify", "example.com/small").out == sound
        os.unlink(os.path.join(rkt.dir, "cas/tree", tree, "rendered"))
        result = rkt.ok("image", "verify", "example.com/small")
        assert result.err == 'verify: image "example.com/small" not rendered; no verification needed\n'


class TestRemoval:
    def test_rm(self, rkt: Rkt, images: str) -> None:
        one, two = small(images), small(images, "example.com/two")
        rkt.ok(INSECURE, "fetch", one, two)
        result = rkt.ok("image", "rm", key_of(one)[:12], "example.com/two:1", "example.com/two")
        assert result.out == "".join(
            f'successfully removed aci for image: "{key_of(path)}"\n' for path in (one, two)
        )
        assert result.err == "rm: 2 image(s) successfully removed\n"
        assert rkt.ok("image", "list", "--no-legend").out == "\n"

    def test_gc(self, rkt: Rkt, images: str) -> None:
        path = small(images)
        rkt.ok(INSECURE, "fetch", path)
        (tree,) = os.listdir(os.path.join(rkt.dir, "cas/tree"))
        result = rkt.ok("image", "gc")
        assert (result.out, result.err) == ("", f'gc: removed treestore "{tree}"\n')
        result = rkt.ok("image", "gc", "--grace-period=0s")
        assert result.out == f'successfully removed aci for image: "{key_of(path)}"\n'
        assert result.err == "gc: 1 image(s) successfully removed\n"
        assert rkt.ok("image", "gc").err == ""
        assert files_below(rkt.dir) == {"cas/db/index.sqlite3", "locks/prepareLock"}

    def test_gc_of_nothing(self, rkt: Rkt) -> None:
        result = rkt.ok("image", "gc")
        assert (result.out, result.err) == ("", "")


class TestUsers:
    """Another user: what file permissions allow, nothing more."""

    def as_user(self, rkt: Rkt, *words: str, group: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            rkt.argv(*words),
            user=54321,
            group=group,
            extra_groups=[],
            env=rkt.environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    @pytest.fixture
    def shared(self, rkt: Rkt, images: str, tmp_path: os.PathLike[str]) -> str:
        """A store of the group 54322, as set-up makes it; the path of an image."""
        parent = os.fspath(tmp_path)
        while parent != tempfile.gettempdir():
            os.chmod(parent, 0o755)
            parent = os.path.dirname(parent)
        rkt.ok(INSECURE, "fetch", small(images))
        for parent, directories, names in os.walk(rkt.dir):
            for name in (*directories, *names):
                path = os.path.join(parent, name)
                mode = os.stat(path).st_mode
                os.chown(path, 0, 54322)
                os.chmod(path, mode)
        os.chown(rkt.dir, 0, 54322)
        os.chmod(rkt.dir, 0o2750)
        return small(images, "example.com/users")

    def test_members_of_the_group(self, rkt: Rkt, shared: str) -> None:
        done = self.as_user(rkt, INSECURE, "fetch", shared, group=54322)
        assert (done.returncode, done.stdout) == (0, key_of(shared)[:39] + "\n"), done.stderr
        # Root alone renders.
        assert len(os.listdir(os.path.join(rkt.dir, "cas/tree"))) == 1
        done = self.as_user(rkt, "image", "list", "--no-legend", "--fields=name", group=54322)
        assert done.stdout == "example.com/small:1\nexample.com/users:1\n"
        for words in (["image", "cat-manifest", "example.com/small"], ["image", "rm", "example.com/small"]):
            done = self.as_user(rkt, *words, group=54322)
            assert done.returncode == 0, done.stderr
        # What a member made, others of the group and root can use and remove.
        rkt.ok("image", "cat-manifest", "example.com/users")
        rkt.ok(INSECURE, "fetch", shared)
        assert self.as_user(rkt, "image", "rm", "example.com/users", group=54322).returncode == 0
        done = self.as_user(rkt, "image", "gc", group=54322)
        assert done.returncode == 254
        assert "permission denied" in done.stderr

    def test_others(self, rkt: Rkt, shared: str) -> None:
        for words in (["image", "list"], [INSECURE, "fetch", shared], ["image", "gc"]):
            done = self.as_user(rkt, *words, group=54323)
            assert done.returncode == 254
            assert done.stderr.count("\n") == 1
            assert "permission denied" in done.stderr

    def test_in_a_user_namespace_without_the_group(self, rkt: Rkt, images: str) -> None:
        """As a unit with PrivateUsers= runs: there is a group, but files cannot be given to it."""
        path = small(images)
        group = os.path.join(images, "group")
        with open(group, "w") as file:
            file.write("root:x:0:\nrkt:x:54322:\n")
        script = 'mount --bind "$1" /etc/group; shift; exec "$@"'
        words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", group]
        done = subprocess.run(
            [*words, *rkt.argv(INSECURE, "fetch", path)],
            env=rkt.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, key_of(path)[:39] + "\n", "")
