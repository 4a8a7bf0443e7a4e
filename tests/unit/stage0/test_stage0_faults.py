"""Errors and SIGKILL at every system call that changes something while a pod is made, started, collected."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functional import pod_images
from rkt.errors import RktError
from rkt.linux import mount, mountinfo
from rkt.pod import lookup
from rkt.pod.pod import Pod, create
from rkt.stage0 import prepare, run
from rkt.stage0.gc import Collector
from rkt.stage0.records import AppRequest, PrepareRequest, RunRequest
from rkt.store.store import Store

CHANGES = (
    "open",
    "mkdir",
    "write",
    "fsync",
    "rename",
    "symlink",
    "chown",
    "chmod",
    "rmdir",
    "unlink",
    "utime",
)


class World:
    """A data directory with a stage1 and an app in the store, rendered."""

    def __init__(self, directory: str) -> None:
        self.data = os.path.join(directory, "data")
        self.record = os.path.join(directory, "record")
        with Store(self.data) as store:
            self.stage1 = self.load(store, pod_images.stage1(f"{directory}/stage1.aci"))
            self.app = self.load(store, pod_images.app(f"{directory}/app.aci", "exit 3"))
            store.render(self.stage1)
            store.render(self.app)

    def load(self, store: Store, path: str) -> str:
        with open(path, "rb") as file:
            return store.import_image(file)

    def request(self, overlay: bool = True) -> PrepareRequest:
        request = PrepareRequest(self.stage1)
        request.apps = [AppRequest(self.app)]
        request.overlay = overlay
        return request

    def make(self, overlay: bool = True) -> Pod:
        """As the command prepare does it."""
        with Store(self.data) as store, prepare.lock(self.data, print):
            plan = prepare.plan(self.request(overlay), store)
            pod = create(self.data)
            try:
                prepare.prepare(pod, self.request(overlay), plan, store)
            except BaseException:
                prepare.discard(pod)
                pod.close()
                raise
        return pod

    def start(self, pod: Pod) -> None:
        """As the command run does it, short of the exec."""
        try:
            pod.to_run()
            run.set_up(pod, RunRequest(), {}, print)
        except BaseException:
            prepare.discard(pod)
            raise

    def collect_running(self, pod: Pod) -> None:
        pod.close()
        self.collect()

    def collect(self) -> None:
        failures: list[str] = []
        collector = Collector(
            self.data,
            {"PATH": "/bin:/usr/bin", "RKT_TEST_RECORD": self.record},
            notify=lambda _: None,
            failed=lambda message, error: failures.append(f"{message}: {error}"),
        )
        collector.mark()
        collector.mark_expired(0)
        collector.remove_ended(0, "0s")
        collector.remove_garbage()
        assert failures == []

    def leftovers(self) -> list[str]:
        found = glob.glob(os.path.join(self.data, "pods", "*", "*"), include_hidden=True)
        return found + [entry.target for entry in mountinfo.below(self.data)]


@pytest.fixture
def world(tmp_path: os.PathLike[str]) -> Iterator[World]:
    made = World(os.fspath(tmp_path))
    yield made
    mountinfo.unmount_below(made.data)


class Trap:
    """Counts the calls that change something; at the one called ``number`` it springs."""

    def __init__(self, number: int, spring: Callable[[], None]) -> None:
        self.number = number
        self.spring = spring
        self.count = 0

    def set(self, patch: pytest.MonkeyPatch) -> None:
        for name in CHANGES:
            patch.setattr(os, name, self.counted(getattr(os, name)))
        for name in ("mount", "move_mount", "umount_fd"):
            patch.setattr(mount, name, self.counted(getattr(mount, name)))

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.number:
                self.spring()
            return function(*arguments, **options)

        return call


def fail() -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def die() -> None:
    os.kill(os.getpid(), 9)


def killed(world: World, number: int, action: Callable[[], None]) -> bool:
    """Run an action in a child that is killed at a call; False when it came to its end before."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.MonkeyPatch.context() as patch:
                Trap(number, die).set(patch)
                action()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.promise("P9")
@pytest.mark.parametrize("overlay", [True, False])
def test_an_error_at_any_call_takes_the_pod_back(world: World, overlay: bool) -> None:
    number = 0
    fds = len(os.listdir("/proc/self/fd"))
    while True:
        number += 1
        with pytest.MonkeyPatch.context() as patch:
            trap = Trap(number, fail)
            trap.set(patch)
            pod = None
            try:
                pod = world.make(overlay)
                world.start(pod)
            except (RktError, OSError):
                assert trap.count >= number
            else:
                # Not every error matters, as when the time of last use cannot be noted.
                patch.undo()
                world.collect_running(pod)
        if pod is not None:
            pod.close()
        assert world.leftovers() == [], number
        assert len(os.listdir("/proc/self/fd")) == fds, number
        if trap.count < number:
            break
    assert number > 40


@pytest.mark.promise("P1")
@pytest.mark.promise("P6")
@pytest.mark.promise("P7")
@pytest.mark.parametrize("overlay", [True, False])
def test_killed_at_any_call_of_a_start(world: World, overlay: bool) -> None:
    number = 1

    def action() -> None:
        world.start(world.make(overlay))

    while killed(world, number, action):
        for pod in lookup.walk(world.data):
            assert pod.state in ("aborted prepare", "exited")
        world.collect()
        assert world.leftovers() == [], number
        number += 1
    assert number > 40
    world.collect()
    assert world.leftovers() == []


@pytest.mark.promise("P1")
@pytest.mark.promise("P6")
def test_killed_at_any_call_of_a_prepare(world: World) -> None:
    number = 1

    def action() -> None:
        world.make().to_prepared()

    while killed(world, number, action):
        for pod in lookup.walk(world.data):
            assert pod.state in ("aborted prepare", "prepared")
            if pod.state == "prepared":
                assert pod.manifest["apps"][0]["name"] == "box"
                assert pod.uses_overlay
        world.collect()
        assert world.leftovers() == [], number
        number += 1
    assert [pod.state for pod in lookup.walk(world.data)] == ["prepared"]


@pytest.mark.promise("P6")
@pytest.mark.promise("P7")
def test_killed_at_any_call_of_a_collection(world: World) -> None:
    """The stage1's gc runs to its end for every pod, however often that takes."""
    number = 1
    while True:
        pod = world.make()
        world.start(pod)
        pod.close()
        if os.path.exists(world.record):
            os.unlink(world.record)
        again = killed(world, number, world.collect)
        world.collect()
        assert world.leftovers() == [], number
        with open(world.record) as file:
            assert pod.uuid in file.read()
        if not again:
            break
        number += 1
    assert number > 40


@pytest.mark.promise("P9")
def test_an_error_at_any_call_of_a_collection_is_made_good_by_the_next(world: World) -> None:
    number = 0
    while True:
        number += 1
        pod = world.make()
        world.start(pod)
        pod.close()
        with pytest.MonkeyPatch.context() as patch:
            trap = Trap(number, fail)
            trap.set(patch)
            try:
                world.collect()
            except (AssertionError, OSError):
                pass
        world.collect()
        assert world.leftovers() == [], number
        if trap.count < number:
            break
