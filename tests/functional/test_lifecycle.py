"""From running to gone: stop, enter, kill, rm, gc, export, with a small stage1."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator

import pytest

from functional import pod_images
from support import aci, driver, machine, processes
from support.driver import Rkt
from support.waiting import PATIENCE, until

INSECURE = "--insecure-options=image"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = os.fspath(tmp_path_factory.mktemp("images"))
    return {
        "stage1": pod_images.stage1(f"{directory}/stage1.aci"),
        "ended": pod_images.app(f"{directory}/app.aci", "exit 3"),
        "sleep": pod_images.app(f"{directory}/sleep.aci", "exec sleep 1000", "example.com/sleep"),
    }


@pytest.fixture
def stage1(images: dict[str, str]) -> str:
    return f"--stage1-path={images['stage1']}"


class Running:
    """A pod whose app sleeps; ended with the test."""

    def __init__(self, rkt: Rkt, *words: str) -> None:
        self.rkt = rkt
        self.file = os.path.join(rkt.base, "uuid")
        if os.path.exists(self.file):
            os.unlink(self.file)
        self.process = rkt.start(INSECURE, "run", f"--uuid-file-save={self.file}", *words)
        try:
            until(self._has_begun, "the pod was not started")
        except BaseException:
            driver.end(self.process)
            raise
        with open(self.file) as file:
            self.uuid = file.read()
        rkt.wait_for(self.uuid, "running")
        rkt.ok("status", "--wait-ready=120s", self.uuid)

    def _has_begun(self) -> bool:
        assert self.process.poll() is None, driver.end(self.process)
        return os.path.exists(self.file)

    @property
    def directory(self) -> str:
        return pod_images.pod_directory(self.rkt.dir, self.uuid)

    def kill(self) -> None:
        """SIGKILL for the stage1 and what it has started, as they come."""
        pids = [self.process.pid]
        for pid in pids:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                pids.extend(int(word) for word in file.read().split())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        else:
            self.process.communicate(timeout=PATIENCE)


@pytest.fixture
def running(rkt: Rkt, images: dict[str, str], stage1: str) -> Iterator[Running]:
    pod = Running(rkt, stage1, images["sleep"])
    yield pod
    pod.close()


def ended(rkt: Rkt, images: dict[str, str], *words: str) -> str:
    """The UUID of a pod that has ended."""
    file = os.path.join(rkt.base, "uuid")
    chosen = (
        [] if any(word.startswith("--stage1") for word in words) else [f"--stage1-path={images['stage1']}"]
    )
    result = rkt(INSECURE, "run", f"--uuid-file-save={file}", *chosen, images["ended"], *words)
    assert result.code == 3, result
    with open(file) as saved:
        uuid = saved.read()
    assert len(uuid) == 36
    return uuid


def leftovers(rkt: Rkt) -> list[str]:
    """What is left of pods: their directories and their mounts."""
    found = []
    for directory in ("embryo", "prepare", "prepared", "run", "exited-garbage", "garbage"):
        path = os.path.join(rkt.dir, "pods", directory)
        found += [os.path.join(directory, name) for name in os.listdir(path)] if os.path.isdir(path) else []
    return found + [mount for mount in machine.Snapshot().mounts if mount.startswith(rkt.base)]


def collect(rkt: Rkt) -> None:
    rkt.ok("gc", "--grace-period=0s", "--expire-prepared=0s")


@pytest.mark.promise("P1")
def test_no_rkt_process_is_left(running: Running) -> None:
    """What was started as rkt is the stage1 now."""
    with open(f"/proc/{running.process.pid}/cmdline", "rb") as file:
        assert b"stage1/rootfs/run" in file.read()


@pytest.mark.promise("P1")
def test_a_killed_pod_has_exited_and_can_be_collected(rkt: Rkt, running: Running) -> None:
    running.kill()
    status = rkt.ok("status", running.uuid).lines
    assert status[0] == "state=exited"
    assert status[-1] == "exited=true"
    value = json.loads(rkt.ok("status", "--format=json", running.uuid).out)
    assert value["apps"][0]["state"] == "exited"
    assert "exit_code" not in value["apps"][0]
    collect(rkt)
    assert leftovers(rkt) == []


def test_a_child_that_holds_the_lock_is_the_pod(rkt: Rkt, running: Running) -> None:
    """Only the shell is killed: its app still has the lock's fd."""
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(timeout=PATIENCE)
    assert rkt.ok("status", running.uuid).lines[0] == "state=running"
    fds = [
        pid for pid in os.listdir("/proc") if pid.isdigit() and running.directory in _links(f"/proc/{pid}/fd")
    ]
    for pid in fds:
        os.kill(int(pid), signal.SIGKILL)
    rkt.ok("status", "--wait=120s", running.uuid)
    assert rkt.ok("status", running.uuid).lines[0] == "state=exited"


def _links(directory: str) -> set[str]:
    found = set()
    try:
        for name in os.listdir(directory):
            found.add(os.readlink(os.path.join(directory, name)))
    except OSError:
        pass
    return found


class TestStop:
    def test_stop(self, rkt: Rkt, running: Running) -> None:
        result = rkt.ok("stop", running.uuid[:6])
        assert (result.out, result.err) == (f'"{running.uuid}"\n', "")
        assert running.process.wait(timeout=PATIENCE) == 143
        assert rkt.ok("status", running.uuid).lines[0] == "state=exited"

    @pytest.mark.parametrize("by", ["word", "file"])
    def test_force(self, rkt: Rkt, running: Running, by: str) -> None:
        words = [running.uuid] if by == "word" else [f"--uuid-file={running.file}"]
        assert rkt.ok("stop", "--force", *words).out == f'"{running.uuid}"\n'
        assert running.process.wait(timeout=PATIENCE) == -signal.SIGKILL

    def test_from_a_mount_namespace_without_the_pods_mounts(self, rkt: Rkt, running: Running) -> None:
        words = rkt.argv("stop", "--force", running.uuid)
        script = f'umount -l "{running.directory}/stage1/rootfs" && exec "$@"'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", *words], env=rkt.environment, check=False
        )
        assert done.returncode == 0
        assert running.process.wait(timeout=PATIENCE) == -signal.SIGKILL

    def test_what_does_not_run(self, rkt: Rkt, images: dict[str, str], stage1: str) -> None:
        over = ended(rkt, images)
        result = rkt.ok("stop", over)
        assert (result.out, result.err) == (f'pod "{over}" is already stopped\n', "")
        prepared = rkt.ok(INSECURE, "prepare", stage1, images["ended"]).out.strip()
        result = rkt("stop", prepared, over, "ffff")
        assert result.code == 254
        assert result.out == f'pod "{over}" is already stopped\n'
        assert result.err == (
            f'stop: pod "{prepared}" is not running\n'
            'stop: cannot get pod: no matches found for "ffff"\n'
            "stop: failed to stop 2 pod(s)\n"
        )

    def test_a_stage1_that_cannot_stop(self, rkt: Rkt, images: dict[str, str]) -> None:
        image = pod_images.stage1(f"{rkt.base}/stage1.aci", stop="#!/bin/sh\nexit 4\n")
        pod = Running(rkt, f"--stage1-path={image}", images["sleep"])
        result = rkt("stop", pod.uuid)
        assert result.code == 254
        assert result.err.startswith(f'stop: error stopping pod "{pod.uuid}": ')
        assert "failed with status 4" in result.err
        pod.close()

    def test_words(self, rkt: Rkt) -> None:
        assert rkt("stop").code == 254
        result = rkt("stop", "--uuid-file=/nonexistent")
        assert (result.code, result.out) == (1, "")
        assert result.err == (
            "stop: unable to resolve UUID from file: open /nonexistent: no such file or directory\n"
        )


class TestEnter:
    def test_the_command_runs_in_the_app(self, rkt: Rkt, running: Running) -> None:
        result = rkt("enter", running.uuid, "/bin/sh", "-c", "cat /script; exit 5")
        assert (result.code, result.out) == (5, "exec sleep 1000")

    def test_words_of_the_command_are_its_own(self, rkt: Rkt, running: Running) -> None:
        result = rkt.ok("enter", "--app=sleep", running.uuid, "/bin/echo", "--app=x", "--", "-h")
        assert result.out == "--app=x -- -h\n"

    def test_no_command(self, rkt: Rkt, running: Running) -> None:
        result = rkt("enter", running.uuid)
        assert 'enter: no command specified, assuming "/bin/bash"\n' in result.err

    def test_errors(self, rkt: Rkt, images: dict[str, str], stage1: str, running: Running) -> None:
        assert rkt("enter", "ffff", "x").err == (
            'enter: problem retrieving pod: no matches found for "ffff"\n'
        )
        result = rkt("enter", "--app=nosuch", running.uuid, "/bin/true")
        assert (result.code, result.err) == (254, f'enter: pod "{running.uuid}" has no app "nosuch"\n')
        over = ended(rkt, images)
        result = rkt("enter", over, "/bin/true")
        assert (result.code, result.err) == (254, f'enter: pod "{over}" isn\'t currently running\n')

    def test_several_apps(self, rkt: Rkt, images: dict[str, str], stage1: str) -> None:
        pod = Running(rkt, stage1, images["sleep"], "--name=a", images["sleep"], "--name=b")
        result = rkt("enter", pod.uuid, "/bin/true")
        assert result.code == 254
        assert result.err == (
            "enter: pod contains multiple apps:\nenter: \ta\nenter: \tb\n"
            'enter: specify app using "rkt enter --app= ..."\n'
        )
        assert rkt.ok("enter", "--app=b", pod.uuid, "/bin/echo", "x").out == "x\n"
        pod.close()


class TestStatus:
    def test_waiting_for_the_end(self, rkt: Rkt, running: Running) -> None:
        result = rkt("status", "--wait=200ms", running.uuid)
        assert result.code == 254
        assert result.err == "status: error waiting for pod to finish: time limit exceeded\n"
        waiting = rkt.start("status", "--wait", running.uuid)
        time.sleep(0.2)
        assert waiting.poll() is None
        running.kill()
        out, _ = waiting.communicate(timeout=PATIENCE)
        assert out.startswith("state=exited\n")

    def test_waiting_for_readiness(self, rkt: Rkt, images: dict[str, str], stage1: str) -> None:
        uuid = rkt.ok(INSECURE, "prepare", stage1, images["sleep"]).out.strip()
        result = rkt("status", "--wait-ready=200ms", uuid)
        assert result.code == 254
        assert result.err == "status: error waiting for pod to be ready: time limit exceeded\n"
        waiting = rkt.start("status", "--wait-ready", uuid)
        pod = rkt.start("run-prepared", uuid)
        out, _ = waiting.communicate(timeout=PATIENCE)
        assert out.startswith("state=running\n")
        rkt.ok("stop", "--force", uuid)
        pod.communicate(timeout=PATIENCE)

    def test_a_pod_that_ends_before_it_is_ready(self, rkt: Rkt, images: dict[str, str]) -> None:
        image = pod_images.stage1(f"{rkt.base}/stage1.aci", run="#!/bin/sh\nexit 3\n")
        uuid = ended(rkt, images, f"--stage1-path={image}")
        result = rkt("status", "--wait-ready=10s", uuid)
        assert result.code == 254
        assert "has ended before it was ready" in result.err

    def test_words(self, rkt: Rkt, running: Running) -> None:
        assert rkt("status").code == 254
        assert rkt("status", "a", "b").code == 254
        assert rkt.ok("status", f"--uuid-file={running.file}").lines[0] == "state=running"
        result = rkt("status", "--uuid-file=/nonexistent")
        assert (result.code, result.err) == (
            1,
            "status: unable to resolve UUID from file: open /nonexistent: no such file or directory\n",
        )


class TestRemove:
    def test_what_runs_stays(self, rkt: Rkt, running: Running) -> None:
        result = rkt("rm", running.uuid)
        assert result.code == 254
        assert result.err == (
            f'rm: pod "{running.uuid}" is currently running\nrm: failed to remove one or more pods\n'
        )
        assert rkt.ok("status", running.uuid).lines[0] == "state=running"

    def test_what_has_ended_goes_at_once(self, rkt: Rkt, images: dict[str, str]) -> None:
        uuid = ended(rkt, images)
        record = os.path.join(rkt.base, "record")
        result = rkt.ok("rm", uuid, env={"RKT_TEST_RECORD": record})
        assert (result.out, result.err) == (f'"{uuid}"\n', "")
        with open(record) as file:
            lines = file.read().splitlines()
        assert lines == [
            f"--local-config={rkt.config}",
            uuid,
            os.path.join(rkt.dir, "pods", "exited-garbage", uuid),
        ]
        assert leftovers(rkt) == []

    def test_what_was_prepared(self, rkt: Rkt, images: dict[str, str], stage1: str) -> None:
        uuid = rkt.ok(INSECURE, "prepare", stage1, images["ended"]).out.strip()
        result = rkt.ok("rm", uuid)
        assert result.out == f'"{uuid}"\n'
        assert result.err == f'rm: moving expired prepared pod "{uuid}" to garbage\n'
        assert leftovers(rkt) == []

    def test_several_of_which_one_fails(self, rkt: Rkt, images: dict[str, str], running: Running) -> None:
        over = ended(rkt, images)
        result = rkt("rm", over, running.uuid, "ffff")
        assert result.code == 254
        assert result.out == f'"{over}"\n'
        assert result.err.endswith(
            'rm: cannot get pod: no matches found for "ffff"\nrm: failed to remove one or more pods\n'
        )

    def test_words(self, rkt: Rkt, images: dict[str, str]) -> None:
        assert rkt("rm").code == 254
        uuid = ended(rkt, images)
        file = os.path.join(rkt.base, "uuid")
        assert rkt.ok("rm", f"--uuid-file={file}").out == f'"{uuid}"\n'
        result = rkt("rm", "--uuid-file=/nonexistent")
        assert result.code == 254
        assert result.err == (
            "rm: unable to resolve UUID from file: open /nonexistent: no such file or directory\n"
        )


@pytest.mark.promise("P7")
class TestCollection:
    def test_two_phases(self, rkt: Rkt, images: dict[str, str]) -> None:
        uuid = ended(rkt, images)
        result = rkt.ok("gc")
        assert result.out == ""
        assert result.err == (
            f'gc: moving pod "{uuid}" to garbage\n'
            f'gc: pod "{uuid}" not removed: still within grace period (30m0s)\n'
        )
        assert rkt.ok("status", uuid).lines[0] == "state=exited garbage"
        result = rkt.ok("gc", "--grace-period=1h30m")
        assert result.err == f'gc: pod "{uuid}" not removed: still within grace period (1h30m0s)\n'
        time.sleep(0.3)
        result = rkt.ok("gc", "--grace-period=200ms")
        assert (result.out, result.err) == (f'Garbage collecting pod "{uuid}"\n', "")
        assert leftovers(rkt) == []
        result = rkt.ok("gc")
        assert (result.out, result.err) == ("", "")

    def test_at_once(self, rkt: Rkt, images: dict[str, str]) -> None:
        uuids = sorted(ended(rkt, images) for _ in range(3))
        result = rkt.ok("gc", "--grace-period=0s")
        assert result.out == "".join(f'Garbage collecting pod "{uuid}"\n' for uuid in uuids)
        assert result.err == "".join(f'gc: moving pod "{uuid}" to garbage\n' for uuid in uuids)
        assert leftovers(rkt) == []

    def test_mark_only(self, rkt: Rkt, images: dict[str, str]) -> None:
        uuid = ended(rkt, images)
        result = rkt.ok("gc", "--mark-only", "--grace-period=0s")
        assert (result.out, result.err) == ("", f'gc: moving pod "{uuid}" to garbage\n')
        assert rkt.ok("status", uuid).lines[0] == "state=exited garbage"

    def test_prepared_pods_expire(self, rkt: Rkt, images: dict[str, str], stage1: str) -> None:
        uuid = rkt.ok(INSECURE, "prepare", stage1, images["ended"]).out.strip()
        rkt.ok("gc")
        assert rkt.ok("status", uuid).lines[0] == "state=prepared"
        time.sleep(0.3)
        result = rkt.ok("gc", "--expire-prepared=200ms")
        assert result.err == f'gc: moving expired prepared pod "{uuid}" to garbage\n'
        assert result.out == f'Garbage collecting pod "{uuid}"\n'
        assert leftovers(rkt) == []

    def test_what_runs_is_left_alone(self, rkt: Rkt, running: Running) -> None:
        collect(rkt)
        assert rkt.ok("status", running.uuid).lines[0] == "state=running"

    def test_a_stage1_whose_gc_fails_keeps_the_pod_for_the_next_gc(
        self, rkt: Rkt, images: dict[str, str]
    ) -> None:
        uuid = ended(rkt, images)
        broken = {"RKT_TEST_GC_STATUS": "9"}
        for _ in range(2):
            result = rkt("gc", "--grace-period=0s", env=broken)
            assert result.code == 254
            assert f'problem performing stage1 gc on "{uuid}": ' in result.err
            assert "failed with status 9" in result.err
            assert "state=exited garbage\n" in rkt.ok("status", uuid).out
        result = rkt("rm", uuid, env=broken)
        assert result.code == 254
        assert "failed with status 9" in result.err
        rkt.ok("gc", "--grace-period=0s")
        assert leftovers(rkt) == []

    def test_after_a_reboot(self, rkt: Rkt, images: dict[str, str]) -> None:
        """No mount is left, and the recorded pid belongs to somebody else."""
        uuid = ended(rkt, images)
        directory = pod_images.pod_directory(rkt.dir, uuid)
        subprocess.run(["umount", "-R", os.path.join(directory, "stage1/rootfs")], check=True)
        with open(os.path.join(directory, "pid"), "w") as file:
            file.write(f"{os.getpid()}\n")
        assert rkt.ok("status", uuid).lines[0] == "state=exited"
        assert "app-box=3\n" in rkt.ok("status", uuid).out
        assert rkt.ok("stop", uuid).out == f'pod "{uuid}" is already stopped\n'
        record = os.path.join(rkt.base, "record")
        rkt.ok("gc", "--grace-period=0s", env={"RKT_TEST_RECORD": record})
        with open(record) as file:
            assert uuid in file.read()
        assert leftovers(rkt) == []

    def test_without_the_tree_of_the_stage1(self, rkt: Rkt, images: dict[str, str]) -> None:
        uuid = ended(rkt, images)
        directory = pod_images.pod_directory(rkt.dir, uuid)
        subprocess.run(["umount", "-R", os.path.join(directory, "stage1/rootfs")], check=True)
        shutil.rmtree(os.path.join(rkt.dir, "cas", "tree"))
        result = rkt.ok("gc", "--grace-period=0s")
        assert "is not in the store" in result.err
        assert leftovers(rkt) == []

    def test_while_others_use_the_pods_directory(self, rkt: Rkt, images: dict[str, str]) -> None:
        """Another mount namespace has the mounts, and a shell has its working directory inside."""
        uuid = ended(rkt, images)
        directory = pod_images.pod_directory(rkt.dir, uuid)
        inside = os.path.join(directory, "stage1/rootfs/opt/stage2/box/rootfs")
        others = [
            subprocess.Popen(["unshare", "--mount", "sleep", "1000"], cwd="/"),
            subprocess.Popen(["sleep", "1000"], cwd=inside),
        ]
        try:
            for other in others:
                until(lambda pid=other.pid: processes.command(pid) == "sleep 1000")
            collect(rkt)
            assert leftovers(rkt) == []
        finally:
            for other in others:
                other.kill()
                other.wait()

    def test_mounts_of_the_host_below_a_shared_mount_survive(
        self, rkt: Rkt, images: dict[str, str], tmp_path: os.PathLike[str]
    ) -> None:
        """A stage1 has bound a directory of the host that is shared and has mounts of its own."""
        volume = os.path.join(tmp_path, "volume")
        os.mkdir(volume)
        subprocess.run(["mount", "-t", "tmpfs", "volume", volume], check=True)
        try:
            subprocess.run(["mount", "--make-shared", volume], check=True)
            os.mkdir(os.path.join(volume, "inner"))
            subprocess.run(["mount", "-t", "tmpfs", "inner", os.path.join(volume, "inner")], check=True)
            with open(os.path.join(volume, "inner", "file"), "w"):
                pass
            uuid = ended(rkt, images)
            target = os.path.join(
                pod_images.pod_directory(rkt.dir, uuid), "stage1/rootfs/opt/stage2/box/rootfs/root"
            )
            subprocess.run(["mount", "--rbind", volume, target], check=True)
            collect(rkt)
            assert os.listdir(os.path.join(volume, "inner")) == ["file"]
            assert [entry for entry in leftovers(rkt) if not entry.startswith(volume)] == []
        finally:
            subprocess.run(["umount", "-R", volume], check=True)

    def test_a_link_in_the_place_of_a_directory_leads_nowhere(
        self, rkt: Rkt, images: dict[str, str], tmp_path: os.PathLike[str]
    ) -> None:
        precious = os.path.join(tmp_path, "precious")
        os.mkdir(precious)
        with open(os.path.join(precious, "file"), "w"):
            pass
        uuid = ended(rkt, images, "--no-overlay")
        root = os.path.join(pod_images.pod_directory(rkt.dir, uuid), "stage1/rootfs")
        os.symlink(precious, os.path.join(root, "opt/stage2/box/rootfs/link"))
        shutil.rmtree(os.path.join(root, "opt/stage2/box/rootfs/tmp"))
        os.symlink(precious, os.path.join(root, "opt/stage2/box/rootfs/tmp"))
        collect(rkt)
        assert leftovers(rkt) == []
        assert os.listdir(precious) == ["file"]

    def test_embryos_nobody_cares_for(self, rkt: Rkt) -> None:
        embryo = os.path.join(rkt.dir, "pods", "embryo", "7fe454c8-5a44-4524-bc91-f22c1184d414")
        for directory in ("embryo", "prepare", "prepared", "run", "exited-garbage", "garbage"):
            os.makedirs(os.path.join(rkt.dir, "pods", directory))
        os.mkdir(embryo)
        foreign = os.path.join(rkt.dir, "pods", "run", "notes")
        os.mkdir(foreign)
        collect(rkt)
        assert leftovers(rkt) == ["run/notes"]

    def test_two_at_once(self, rkt: Rkt, images: dict[str, str]) -> None:
        uuids = [ended(rkt, images) for _ in range(4)]
        both = [rkt.start("gc", "--grace-period=0s") for _ in range(2)]
        outputs = [process.communicate(timeout=PATIENCE) for process in both]
        assert [process.returncode for process in both] == [0, 0]
        said = "".join(out for out, _ in outputs)
        for uuid in uuids:
            assert said.count(f'Garbage collecting pod "{uuid}"') == 1
        assert leftovers(rkt) == []


@pytest.mark.promise("P6")
@pytest.mark.promise("P1")
class TestKilled:
    """SIGKILL at some moment: the next command understands what is there, gc leaves nothing of it."""

    DELAYS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15)

    def kill(self, rkt: Rkt, delay: float, *words: str) -> None:
        process = rkt.start(*words, start_new_session=True)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)

    @pytest.mark.parametrize("delay", DELAYS)
    @pytest.mark.parametrize("mode", ["overlay", "copy"])
    def test_run(self, rkt: Rkt, images: dict[str, str], stage1: str, delay: float, mode: str) -> None:
        words = [stage1, images["sleep"], *(["--no-overlay"] if mode == "copy" else [])]
        self.kill(rkt, delay, INSECURE, "run", *words)
        listed = rkt.ok("list", "--no-legend").out
        assert not listed.strip() or "exited" in listed or "aborted prepare" in listed
        json.loads(rkt.ok("list", "--format=json").out)
        collect(rkt)
        assert leftovers(rkt) == []
        assert rkt(INSECURE, "run", stage1, images["ended"]).code == 3

    @pytest.mark.parametrize("delay", DELAYS)
    def test_prepare(self, rkt: Rkt, images: dict[str, str], stage1: str, delay: float) -> None:
        self.kill(rkt, delay, INSECURE, "prepare", stage1, images["ended"])
        listed = rkt.ok("list", "--no-legend").out
        assert not listed.strip() or "prepared" in listed or "aborted prepare" in listed
        collect(rkt)
        assert leftovers(rkt) == []

    @pytest.mark.parametrize("delay", (0.02, 0.03, 0.04, 0.05, 0.06, 0.08))
    def test_gc(self, rkt: Rkt, images: dict[str, str], delay: float) -> None:
        for _ in range(3):
            ended(rkt, images)
        self.kill(rkt, delay, "gc", "--grace-period=0s")
        rkt.ok("list")
        collect(rkt)
        assert leftovers(rkt) == []


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 254), (signal.SIGHUP, 254)]
)
@pytest.mark.parametrize("command", ["prepare", "run"])
def test_an_interrupted_command_leaves_nothing(
    rkt: Rkt, images: dict[str, str], stage1: str, number: int, code: int, command: str
) -> None:
    """It is held up at the lock that image gc would have, with all images fetched."""
    import fcntl

    rkt.ok(INSECURE, "rm", rkt.ok(INSECURE, "prepare", stage1, images["ended"]).out.strip())
    lock = os.open(os.path.join(rkt.dir, "locks", "prepareLock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    process = rkt.start(INSECURE, command, stage1, images["ended"])
    assert process.stderr is not None
    while "waiting for image gc to finish" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    os.close(lock)
    assert process.returncode == code
    assert leftovers(rkt) == []
    if code == 254:
        assert f"{command}: " in err
        assert f"interrupted by {signal.Signals(number).name}" in err


class TestExport:
    SCRIPT = "rm /bin/wc; echo changed > /etc/passwd; mkdir /new; ln /etc/passwd /new/hard; ln -s x /new/soft"

    @pytest.mark.parametrize("mode", ["overlay", "copy"])
    @pytest.mark.parametrize("mounted", [True, False])
    def test_an_app_with_its_changes(
        self, rkt: Rkt, images: dict[str, str], mode: str, mounted: bool, tmp_path: os.PathLike[str]
    ) -> None:
        image = pod_images.app(f"{tmp_path}/app.aci", f"{self.SCRIPT}; exit 3")
        changed = {**images, "ended": image}
        uuid = ended(rkt, changed, *(["--no-overlay"] if mode == "copy" else []))
        if not mounted and mode == "overlay":
            root = os.path.join(pod_images.pod_directory(rkt.dir, uuid), "stage1/rootfs")
            subprocess.run(["umount", "-R", root], check=True)
        output = os.path.join(tmp_path, "out.aci")
        result = rkt.ok("export", uuid, output)
        assert (result.out, result.err) == ("", "")
        with tarfile.open(output, "r:gz") as archive:
            members = {member.name: member for member in archive.getmembers()}
            manifest = archive.extractfile("manifest")
            assert manifest is not None
            assert json.loads(manifest.read())["name"] == "example.com/box"
            passwd = archive.extractfile("rootfs/etc/passwd")
            assert passwd is not None
            assert passwd.read() == b"changed\n"
        assert "rootfs/bin/wc" not in members
        assert "rootfs/bin/cat" in members
        assert members["rootfs/tmp"].mode == 0o1777
        assert members["rootfs/new/hard"].islnk()
        assert members["rootfs/new/hard"].linkname == "rootfs/etc/passwd"
        assert members["rootfs/new/soft"].linkname == "x"
        assert not [name for name in members if ".wh." in name]
        # What was exported can be run again.
        rkt.ok("rm", uuid)
        again = rkt(INSECURE, "run", f"--stage1-path={images['stage1']}", output)
        assert again.code == 3
        assert rkt.ok("export", rkt.ok("list", "--no-legend").out[:8], f"{tmp_path}/again.aci").code == 0

    def test_errors(self, rkt: Rkt, images: dict[str, str], running: Running) -> None:
        output = os.path.join(rkt.base, "out.aci")
        result = rkt("export", running.uuid, output)
        assert result.code == 254
        assert result.err == "export: pod is not exited. Only exited pods can be exported\n"
        uuid = ended(rkt, images)
        assert rkt("export", uuid, "x.tar").err == "export: extension must be .aci (given x.tar)\n"
        with open(output, "w") as file:
            file.write("mine")
        assert rkt("export", uuid, output).err == "export: output ACI file exists (try --overwrite)\n"
        with open(output) as file:
            assert file.read() == "mine"
        rkt.ok("export", "--overwrite", uuid, output)
        assert aci.size_of(output) > 1000
        assert rkt("export", uuid).code == 254
        assert rkt("export", "ffff", "x.aci").err == (
            'export: problem retrieving pod: no matches found for "ffff"\n'
        )
        assert rkt("export", uuid, "/nonexistent/x.aci").code == 254
        assert [name for name in os.listdir(rkt.base) if name.endswith(".new")] == []

    def test_leftover_mounts_of_a_copied_pod(self, rkt: Rkt, images: dict[str, str]) -> None:
        uuid = ended(rkt, images, "--no-overlay")
        target = os.path.join(
            pod_images.pod_directory(rkt.dir, uuid), "stage1/rootfs/opt/stage2/box/rootfs/root"
        )
        subprocess.run(["mount", "--bind", "/etc", target], check=True)
        result = rkt("export", uuid, f"{rkt.base}/out.aci")
        assert result.code == 254
        assert "has mounts left over" in result.err


@pytest.mark.promise("P2")
def test_many_at_once(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    """Runs, lists and collections together: each run has its exit code, nothing waits, nothing stays."""
    rkt.ok(INSECURE, "rm", rkt.ok(INSECURE, "prepare", stage1, images["ended"]).out.strip())
    processes = [rkt.start(INSECURE, "run", stage1, images["ended"]) for _ in range(12)]
    others = [rkt.start("list") for _ in range(6)] + [rkt.start("gc", "--grace-period=0s") for _ in range(4)]
    for process in others:
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    for process in processes:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 3, err
    collect(rkt)
    assert leftovers(rkt) == []


@pytest.mark.promise("P8")
class TestPrivateUsers:
    def test_ranges_are_recorded_and_handed_over(self, rkt: Rkt, images: dict[str, str]) -> None:
        found = set()
        for mode in ([], [], ["--no-overlay"]):
            uuid = ended(rkt, images, "--private-users", *mode)
            record = pod_images.lines(rkt.dir, uuid, "private-users-prepared")[0]
            assert f"--private-users={record}" in pod_images.lines(rkt.dir, uuid, "run-arguments")
            found.add(record)
        assert len(found) == 3

    @pytest.mark.parametrize("mode", ["overlay", "copy"])
    def test_owners(self, rkt: Rkt, images: dict[str, str], tmp_path: os.PathLike[str], mode: str) -> None:
        """Inside they are the image's, on the host those of the range; the rendered image is not touched."""
        owned = aci.Entry("owned", b"x", uid=1000, gid=1001)
        script = aci.Entry("script", b"exit 3", mode=0o755)
        image = aci.busybox(f"{tmp_path}/owned.aci", entries=[owned, script])
        words = ["--no-overlay"] if mode == "copy" else []
        uuid = ended(rkt, {**images, "ended": image}, "--private-users", *words)
        directory = pod_images.pod_directory(rkt.dir, uuid)
        first = int(pod_images.lines(rkt.dir, uuid, "private-users-prepared")[0].partition(":")[0])
        stage1 = os.path.join(directory, "stage1/rootfs")
        root = os.path.join(stage1, "opt/stage2/box/rootfs")
        expected = {
            stage1: 0,
            os.path.join(stage1, "run"): 0,
            os.path.join(stage1, "rkt/status"): 0,
            os.path.dirname(root): 0,
            root: 0,
            os.path.join(root, "bin/busybox"): 0,
            os.path.join(root, "etc/mtab"): 0,
            os.path.join(root, "owned"): 1000,
        }
        assert {path: os.lstat(path).st_uid - first for path in expected} == expected
        assert os.stat(os.path.join(root, "owned")).st_gid == first + 1001
        if mode == "overlay":
            tree = pod_images.lines(rkt.dir, uuid, "appsinfo/box/treeStoreID")[0]
            assert os.stat(os.path.join(rkt.dir, "cas/tree", tree, "rootfs/owned")).st_uid == 1000
            upper = os.path.join(directory, "overlay", tree, "upper/box")
            assert sorted(os.listdir(upper)) == ["etc"]
        output = os.path.join(tmp_path, "out.aci")
        rkt.ok("export", uuid, output)
        with tarfile.open(output) as archive:
            members = {member.name: (member.uid, member.gid) for member in archive.getmembers()}
        assert members["rootfs/owned"] == (1000, 1001)
        assert members["rootfs/etc/mtab"] == members["rootfs/bin/busybox"] == (0, 0)
        collect(rkt)
        assert leftovers(rkt) == []
