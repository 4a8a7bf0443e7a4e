"""acbuild run: programs of an image run in it, confined, and what they change is what stays."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import tarfile
from typing import Any

import pytest

from support import aci, processes
from support.driver import Rkt
from support.tools import Tool
from support.waiting import PATIENCE, until

ENGINES = ("systemd-nspawn", "chroot")


@pytest.fixture
def acbuild(tmp_path: os.PathLike[str]) -> Tool:
    directory = os.path.join(tmp_path, "work")
    os.mkdir(directory)
    return Tool("acbuild", directory)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return f"--engine={request.param}"


@pytest.fixture
def begun(acbuild: Tool) -> Tool:
    """A build with a busybox and nothing else in it."""
    acbuild.ok("begin")
    root = rootfs(acbuild, "bin")
    os.mkdir(root)
    subprocess.run(["cp", aci.BUSYBOX, f"{root}/busybox"], check=True)
    for applet in aci.APPLETS:
        os.symlink("busybox", f"{root}/{applet}")
    return acbuild


def rootfs(acbuild: Tool, *names: str) -> str:
    return os.path.join(acbuild.directory, ".acbuild/currentaci/rootfs", *names)


def manifest(acbuild: Tool) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(acbuild.ok("cat-manifest").out)
    return value


class TestEngines:
    def test_what_a_program_sees(self, begun: Tool, engine: str) -> None:
        begun.ok("environment", "add", "A", "one two")
        begun.ok("environment", "add", "PATH", "/nowhere")
        os.mkdir(rootfs(begun, "srv"))
        script = 'echo "$A|$PATH|$HOME|$(pwd)|$(id -u)"; cat /etc/resolv.conf'
        said = begun.ok("run", engine, "--working-dir=/srv", "--", "sh", "-c", script).out
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert said.splitlines()[0] == f"one two|{path}|/root|/srv|0"
        with open("/etc/resolv.conf") as file:
            assert said.partition("\n")[2] == file.read()

    def test_changes_stay_and_nothing_else(self, begun: Tool, engine: str) -> None:
        before = sorted(os.listdir(rootfs(begun)))
        begun.ok("run", engine, "--", "true")
        assert sorted(os.listdir(rootfs(begun))) == before
        begun.ok(
            "run", engine, "--", "sh", "-c", "mkdir -p /a/b; echo x >/a/b/c; mkdir -p /tmp; echo y >/tmp/t"
        )
        begun.ok("run", engine, "--", "sh", "-c", "test $(cat /tmp/t) = y && rm /tmp/t && chown 5:6 /a/b/c")
        found = os.stat(rootfs(begun, "a/b/c"))
        assert (found.st_uid, found.st_gid) == (5, 6)
        assert sorted({*os.listdir(rootfs(begun)), "tmp"}) == sorted([*before, "a", "tmp"])
        assert sorted(os.listdir(os.path.join(begun.directory, ".acbuild"))) == ["build-mode", "currentaci"]

    def test_exit_codes_and_streams(self, begun: Tool, engine: str) -> None:
        before = manifest(begun)
        result = begun("run", engine, "--", "sh", "-c", "cat; echo oops >&2; exit 42", input="through\n")
        assert (result.code, result.out, result.err) == (42, "through\n", "oops\n")
        assert manifest(begun) == before
        begun.ok("run", engine, "--", "echo", "a b")
        assert manifest(begun)["annotations"][-1]["value"] == 'acbuild run "echo" "a b"'

    def test_what_cannot_be_run(self, begun: Tool, engine: str) -> None:
        nothing = begun("run", engine, "--", "nothing")
        assert nothing.code == 1
        assert 'unable to find "nothing"' in nothing.err
        assert "/bin/nothing" in begun("run", engine, "--", "/bin/nothing").err
        assert "working directory" in begun("run", engine, "--working-dir=/none", "--", "true").err
        unknown = begun("run", "--engine=docker", "--", "true")
        assert unknown.err == 'run: no such engine "docker": there are systemd-nspawn, chroot\n'
        assert begun("run").code == 1

    @pytest.mark.promise("P5")
    def test_a_program_is_confined(self, begun: Tool, engine: str) -> None:
        script = (
            "grep CapBnd /proc/self/status; mkdir -p /d; mknod /d/disk b 254 0; mknod /d/mem c 1 1;"
            "head -c1 /d/disk; head -c1 /d/mem; head -c1 /d/null; mount -t tmpfs none /d; ls /d;"
            "echo 1 >/proc/sys/kernel/panic; echo done"
        )
        result = begun.ok("run", engine, "--", "sh", "-c", script)
        assert result.out.splitlines()[0] == "CapBnd:\t00000000a80425fb"
        assert "disk\nmem\ndone" in result.out
        assert result.err.count("Operation not permitted") >= 2
        assert stat.S_ISBLK(os.stat(rootfs(begun, "d/disk")).st_mode)

    @pytest.mark.promise("P4")
    def test_links_of_the_image_lead_nowhere(self, begun: Tool, engine: str) -> None:
        outside = os.path.join(begun.directory, "outside")
        os.mkdir(outside)
        with open(os.path.join(outside, "resolv.conf"), "w") as file:
            file.write("mine")
        os.symlink(outside, rootfs(begun, "etc"))
        os.symlink(outside, rootfs(begun, "usr"))
        begun("run", engine, "--", "true")
        os.unlink(rootfs(begun, "usr"))
        begun("run", engine, "--", "true")
        os.unlink(rootfs(begun, "etc"))
        os.mkdir(rootfs(begun, "etc"))
        os.symlink(os.path.join(outside, "resolv.conf"), rootfs(begun, "etc/resolv.conf"))
        said = begun.ok("run", engine, "--", "true")
        assert "/etc/resolv.conf of the image is a link" in said.err
        assert os.listdir(outside) == ["resolv.conf"]
        with open(os.path.join(outside, "resolv.conf")) as file:
            assert file.read() == "mine"

    def test_what_it_leaves_running_ends(self, begun: Tool, engine: str) -> None:
        sleep = processes.own_sleep()
        begun.ok("run", engine, "--", "sh", "-c", f"{sleep} >/dev/null 2>&1 & true")
        assert not processes.is_left(sleep)

    def test_killed_at_work(self, begun: Tool, engine: str) -> None:
        sleep = processes.own_sleep()
        argv = [begun.program, "run", engine, "--", "sh", "-c", f"echo x >/kept; echo ready; {sleep}; true"]
        with subprocess.Popen(
            argv, cwd=begun.directory, stdout=subprocess.PIPE, env=begun.environment
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            until(lambda: processes.is_left(sleep))
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
        until(lambda: not processes.is_left(sleep), "the program goes on")
        begun.ok("run", engine, "--", "cat", "/kept")
        with open("/proc/self/mountinfo") as file:
            assert begun.directory not in file.read()

    def test_two_builds_at_once(self, begun: Tool, engine: str, tmp_path: os.PathLike[str]) -> None:
        other = os.path.join(tmp_path, "other")
        subprocess.run(["cp", "-a", begun.directory, other], check=True)
        script = "echo ready; read line; echo $line >/said"
        running = [
            subprocess.Popen(
                [begun.program, f"--work-path={path}", "run", engine, "--", "sh", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=begun.environment,
            )
            for path in (begun.directory, other)
        ]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for number, process in enumerate(running):
            process.communicate(b"%d\n" % number, timeout=PATIENCE)
            assert process.returncode == 0
        for number, path in enumerate((begun.directory, other)):
            with open(os.path.join(path, ".acbuild/currentaci/rootfs/said")) as file:
                assert file.read() == f"{number}\n"

    def test_sigterm_reaches_the_program(self, begun: Tool) -> None:
        script = "trap 'echo ended; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
        argv = [begun.program, "run", "--engine=chroot", "--", "sh", "-c", script]
        with subprocess.Popen(
            argv, cwd=begun.directory, stdout=subprocess.PIPE, env=begun.environment
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read() == b"ended\n"
            assert process.wait(PATIENCE) == 7

    @pytest.mark.alone
    def test_no_trace_on_the_machine(self, begun: Tool, engine: str, clean_machine: None) -> None:
        begun.ok("run", engine, "--", "true")
        begun("run", engine, "--", "nothing")
        name = f"acbuild-{os.stat(os.path.join(begun.directory, '.acbuild')).st_ino}"
        found = subprocess.run(["find", "/sys/fs/cgroup", "-name", name], capture_output=True, check=False)
        assert found.stdout == b""


class TestDependencies:
    @pytest.fixture
    def base(self, rkt: Rkt, tmp_path: os.PathLike[str]) -> str:
        """The data directory of a store with an image to build on, which nobody has signed."""
        path = aci.busybox(
            os.path.join(tmp_path, "base.aci"),
            "example.com/base",
            entries=[
                aci.directory("srv"),
                aci.directory("srv/dir"),
                aci.Entry("srv/dir/one", b"1"),
                aci.Entry("srv/dir/two", b"2"),
                aci.Entry("srv/file", b"base\n"),
            ],
        )
        rkt.ok("fetch", "--insecure-options=image", path)
        return rkt.dir

    def test_only_changes_become_part_of_the_image(
        self, acbuild: Tool, engine: str, base: str, rkt: Rkt
    ) -> None:
        acbuild.ok("begin")
        acbuild.ok("set-name", "example.com/top")
        acbuild.ok("dependency", "add", "example.com/base:1")
        acbuild.ok(
            "run",
            engine,
            "--insecure",
            f"--store={base}",
            "--",
            "sh",
            "-c",
            "echo more >>/srv/file; echo n >/srv/new",
        )
        assert sorted(os.listdir(rootfs(acbuild))) == ["srv"]
        assert sorted(os.listdir(rootfs(acbuild, "srv"))) == ["file", "new"]
        acbuild.ok("set-exec", "--", "/bin/cat", "/srv/file", "/srv/new", "/srv/dir/one")
        acbuild.ok("write", "top.aci")
        with tarfile.open(f"{acbuild.directory}/top.aci") as tar:
            assert set(tar.getnames()) == {
                "rootfs",
                "rootfs/srv",
                "rootfs/srv/file",
                "rootfs/srv/new",
                "manifest",
            }
        result = rkt.ok("run", "--insecure-options=image", "--net=none", f"{acbuild.directory}/top.aci")
        said = [line.rstrip().rpartition(" ")[2] for line in result.lines]
        assert said == ["base", "more", "n", "1"], result

    @pytest.mark.promise("P3")
    def test_of_which_nobody_knows_who_made_it(self, acbuild: Tool, engine: str, base: str) -> None:
        acbuild.ok("begin")
        acbuild.ok("dependency", "add", "example.com/base")
        refused = acbuild("run", engine, f"--store={base}", "--", "true")
        assert (refused.code, refused.out) == (1, "")
        assert (
            'dependency "example.com/base" cannot be fetched: the image in the local store was not verified'
            in refused.err
        )

    def test_what_is_removed_stays_removed(self, acbuild: Tool, engine: str, base: str, rkt: Rkt) -> None:
        acbuild.ok("begin")
        acbuild.ok("set-name", "example.com/top")
        acbuild.ok("dependency", "add", "example.com/base")
        store = f"--store={base}"
        acbuild.ok(
            "run",
            engine,
            "--insecure",
            store,
            "--",
            "sh",
            "-c",
            "rm -r /srv/file /srv/dir; mkdir /srv/dir; echo 3 >/srv/dir/three",
        )
        again = acbuild.ok("run", engine, "--insecure", store, "--", "ls", "/srv", "/srv/dir")
        assert again.out.split() == [
            *("/srv:", "dir", "/srv/dir:", "three"),
        ]
        os.mkdir(os.path.join(acbuild.directory, "late"))
        acbuild.ok("copy", "late", "/srv/late")
        acbuild.ok("set-exec", "--", "/bin/ls", "/srv", "/srv/dir")
        acbuild.ok("write", "--insecure", store, "top.aci")
        out = os.path.join(acbuild.directory, "top.aci")
        with tarfile.open(out) as tar:
            file = tar.extractfile("manifest")
            assert file is not None
            whitelist = json.load(file)["pathWhitelist"]
            assert all(not member.ischr() for member in tar)
        assert {"/srv/dir/three", "/srv/late", "/bin/busybox"} <= set(whitelist)
        assert not {"/srv/file", "/srv/dir/one"} & set(whitelist)
        Tool("actool", acbuild.directory).ok("validate", "top.aci")
        key = rkt.ok("fetch", "--insecure-options=image", out).lines[-1]
        unpacked = os.path.join(acbuild.directory, "unpacked")
        rkt.ok("image", "render", "--rootfs-only", key, unpacked)
        assert sorted(os.listdir(f"{unpacked}/srv")) == ["dir", "late"]
        assert os.listdir(f"{unpacked}/srv/dir") == ["three"]
        assert "three" in rkt.ok("run", "--insecure-options=image", "--net=none", out).out

    @pytest.mark.promise("P3")
    def test_a_dependency_nobody_has(self, acbuild: Tool) -> None:
        acbuild.ok("begin")
        acbuild.ok("dependency", "add", "nothing.invalid/base")
        refused = acbuild("run", "--", "true")
        assert refused.code == 1
        assert "nothing.invalid/base" in refused.err


def test_a_whole_script(acbuild: Tool, rkt: Rkt) -> None:
    with open(f"{acbuild.directory}/build.acb", "w") as file:
        file.write(
            "begin ./box.aci\n"
            "set-name example.com/scripted\n"
            "run --engine=chroot sh -c 'mkdir -p /srv && echo served >/srv/page'\n"
            "run cat /srv/page\n"
            "set-exec cat /srv/page\n"
            "write out.aci\n"
        )
    aci.busybox(f"{acbuild.directory}/box.aci", "example.com/box")
    assert acbuild.ok("script", "build.acb").lines[0] == "served"
    out = f"{acbuild.directory}/out.aci"
    assert "served" in rkt.ok("run", "--insecure-options=image", "--net=none", out).out
    assert sorted(os.listdir(acbuild.directory)) == ["box.aci", "build.acb", "out.aci"]
