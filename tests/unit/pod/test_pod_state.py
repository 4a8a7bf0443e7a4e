"""The states of a pod: directory and lock, look-up, moves, and what happens when two processes meet."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

import pytest

from rkt import pod as pods
from rkt.errors import RktError
from rkt.pod import layout, state
from rkt.pod.pod import Pod, create, make_directories, make_directory, random_uuid

UUID = "7fe454c8-5a44-4524-bc91-f22c1184d414"


@pytest.fixture
def data(tmp_path: os.PathLike[str]) -> str:
    path = os.path.join(tmp_path, "data")
    make_directories(path)
    return path


def place(data: str, directory: str, uuid: str = UUID) -> str:
    path = os.path.join(data, "pods", directory, uuid)
    os.mkdir(path)
    return path


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Callable[[], None]], None]]:
    """Run a function once at a trace point."""

    def at(point: str, action: Callable[[], None]) -> None:
        pending = [action]

        def reached(name: str) -> None:
            if name == point and pending:
                pending.pop()()

        monkeypatch.setattr(state, "trace", reached)

    yield at


UNLOCKED = {
    "embryo": "embryo",
    "prepare": "aborted prepare",
    "prepared": "prepared",
    "run": "exited",
    "exited-garbage": "exited garbage",
    "garbage": "garbage",
}
LOCKED = {
    "embryo": "embryo",
    "prepare": "preparing",
    "prepared": "prepared",
    "run": "running",
    "exited-garbage": "exited deleting",
    "garbage": "deleting",
}


@pytest.mark.promise("P2")
@pytest.mark.parametrize("directory", layout.DIRECTORIES)
def test_the_state_is_the_directory_and_the_lock(data: str, directory: str) -> None:
    import fcntl

    path = place(data, directory)
    with Pod.open(data, UUID) as pod:
        assert (pod.state, pod.directory) == (UNLOCKED[directory], directory)
    holder = os.open(path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with Pod.open(data, UUID) as pod:
        assert pod.state == LOCKED[directory]
    os.close(holder)


@pytest.mark.promise("P2")
def test_looking_leaves_no_lock(data: str) -> None:
    import fcntl

    path = place(data, "run")
    with Pod.open(data, UUID) as pod:
        assert pod.state == state.EXITED
        other = os.open(path, os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)


def test_a_new_pod_is_being_prepared_and_locked(data: str) -> None:
    with create(data) as pod:
        assert (pod.state, pod.owned) == (state.PREPARING, True)
        assert layout.is_uuid(pod.uuid)
        with pods.find(data, pod.uuid) as seen:
            assert seen.state == state.PREPARING
        status = os.stat(pod.path)
        assert stat.S_IMODE(status.st_mode) == 0o750
        assert stat.S_IMODE(os.stat(os.path.join(pod.path, "pod-created")).st_mode) == 0o640
    with pods.find(data, pod.uuid) as seen:
        assert seen.state == state.ABORTED_PREPARE


def test_a_life(data: str) -> None:
    with create(data) as pod:
        pod.to_prepared()
        assert not pod.owned
    with pods.find(data, pod.uuid) as pod:
        assert pod.state == state.PREPARED
        assert pod.take()
        pod.to_run()
        with pods.find(data, pod.uuid) as seen:
            assert seen.state == state.RUNNING
    with pods.find(data, pod.uuid) as pod:
        assert pod.state == state.EXITED
        assert pod.to_exited_garbage()
        assert pod.state == state.EXITED_GARBAGE
        assert pod.seize()
        with pods.find(data, pod.uuid) as seen:
            assert seen.state == state.EXITED_DELETING
        assert pod.to_garbage()
    with pytest.raises(RktError, match="no matches found for"):
        pods.find(data, pod.uuid)


@pytest.mark.promise("P1")
def test_a_killed_process_leaves_a_state_that_is_read_correctly(data: str) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        pod = create(data)
        pod.to_run()
        os.write(writer, pod.uuid.encode())
        os.read(os.pipe()[0], 1)
        os._exit(0)
    uuid = os.read(reader, 36).decode()
    with pods.find(data, uuid) as pod:
        assert pod.state == state.RUNNING
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    with pods.find(data, uuid) as pod:
        assert pod.state == state.EXITED


MOVES = [
    ("embryo", "prepare", "aborted prepare"),
    ("prepare", "prepared", "prepared"),
    ("prepared", "run", "exited"),
    ("run", "exited-garbage", "exited garbage"),
    ("exited-garbage", "garbage", "garbage"),
    ("prepare", "garbage", "garbage"),
]


@pytest.mark.promise("P2")
@pytest.mark.parametrize(
    ("before", "after", "word", "point"),
    [
        (*move, point)
        for move in MOVES
        for point in ("opened", "probed")
        if point == "opened" or state.fixed(move[0]) is None
    ],
)
def test_a_pod_that_moves_while_we_look_is_found_where_it_is(
    data: str,
    before: str,
    after: str,
    word: str,
    point: str,
    trace: Callable[[str, Callable[[], None]], None],
) -> None:
    path = place(data, before)
    trace(point, lambda: os.rename(path, os.path.join(data, "pods", after, UUID)))
    with Pod.open(data, UUID) as pod:
        assert (pod.directory, pod.state) == (after, word)


def test_a_pod_that_is_removed_while_we_look_is_not_present(
    data: str, trace: Callable[[str, Callable[[], None]], None]
) -> None:
    path = place(data, "garbage")
    trace("opened", lambda: os.rmdir(path))
    with pytest.raises(RktError, match=f"pod {UUID} was not present"):
        Pod.open(data, UUID)


def test_a_pod_that_became_prepared_again_is_found(
    data: str, trace: Callable[[str, Callable[[], None]], None]
) -> None:
    path = place(data, "run")
    trace("opened", lambda: os.rename(path, os.path.join(data, "pods", "prepared", UUID)))
    with Pod.open(data, UUID) as pod:
        assert pod.state == state.PREPARED


def test_of_two_that_run_a_prepared_pod_the_later_one_loses(data: str) -> None:
    place(data, "prepared")
    first, second = Pod.open(data, UUID), Pod.open(data, UUID)
    assert first.take()
    first.to_run()
    assert not second.take()
    assert Pod.open(data, UUID).state == state.RUNNING
    first.close()
    second.close()


def test_the_loser_learns_it_from_the_rename(
    data: str, trace: Callable[[str, Callable[[], None]], None]
) -> None:
    path = place(data, "prepared")
    pod = Pod.open(data, UUID)
    assert pod.take()
    trace("moving", lambda: os.rename(path, os.path.join(data, "pods", "garbage", UUID)))
    with pytest.raises(FileNotFoundError):
        pod.to_run()
    pod.close()


@pytest.mark.promise("P2")
def test_taking_a_pod_is_not_disturbed_by_those_who_look(data: str) -> None:
    import fcntl
    import threading

    path = place(data, "prepared")
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.05, os.close, [looking])
    timer.start()
    with Pod.open(data, UUID) as pod:
        assert pod.take()
    timer.join()


def test_of_two_that_remove_a_pod_one_finds_it_gone(data: str) -> None:
    path = place(data, "garbage")
    first, second = Pod.open(data, UUID), Pod.open(data, UUID)
    assert first.seize()
    os.rmdir(path)
    first.close()
    assert not second.seize()
    second.close()


def test_moves_that_came_too_late_say_so(data: str) -> None:
    place(data, "run")
    first, second = Pod.open(data, UUID), Pod.open(data, UUID)
    assert first.to_exited_garbage()
    assert not second.to_exited_garbage()
    first.close()
    second.close()


class TestLookup:
    def test_any_unique_beginning_in_any_case(self, data: str) -> None:
        place(data, "run")
        for prefix in ("7", "7FE4", UUID, UUID.upper()):
            with pods.find(data, prefix) as pod:
                assert pod.uuid == UUID

    def test_messages(self, data: str) -> None:
        place(data, "run")
        place(data, "prepared", "7fe454c8-0000-4524-bc91-f22c1184d414")
        with pytest.raises(RktError, match=r'^no matches found for "zz"$'):
            pods.find(data, "zz")
        with pytest.raises(RktError, match=r"^ambiguous uuid, 2 matches$"):
            pods.find(data, "7fe454c8")
        with pytest.raises(RktError, match=r"^UUID cannot be empty$"):
            pods.find(data, "")

    @pytest.mark.parametrize("directory", ["embryo", "garbage"])
    def test_embryos_and_garbage_are_no_pods(self, data: str, directory: str) -> None:
        place(data, directory)
        with pytest.raises(RktError, match="no matches"):
            pods.find(data, UUID)
        assert pods.names(data) == {}

    def test_foreign_entries_are_left_alone(self, data: str) -> None:
        for name in ("lost+found", UUID.upper(), UUID[:-1], UUID + "0", ".tmp", "../x".replace("/", "_")):
            os.mkdir(os.path.join(data, "pods", "run", name))
        assert pods.names(data) == {}

    def test_a_file_or_link_with_the_name_of_a_pod_is_no_pod(self, data: str, tmp_path: object) -> None:
        os.symlink("/", os.path.join(data, "pods", "run", UUID))
        with pytest.raises(OSError):
            Pod.open(data, UUID)

    def test_a_missing_data_directory_has_no_pods(self, tmp_path: object) -> None:
        assert pods.names(f"{tmp_path}/nowhere") == {}

    def test_all_pods_by_uuid(self, data: str) -> None:
        made = sorted(random_uuid() for _ in range(20))
        for number, uuid in enumerate(made):
            place(data, layout.LISTED_DIRECTORIES[number % 4], uuid)
        assert [pod.uuid for pod in pods.walk(data)] == made


def test_uuids_are_random_version_4() -> None:
    made = {random_uuid() for _ in range(500)}
    assert len(made) == 500
    for uuid in made:
        assert layout.is_uuid(uuid)
        assert uuid[14] == "4"
        assert uuid[19] in "89ab"


def test_modes_do_not_depend_on_the_umask(tmp_path: os.PathLike[str]) -> None:
    data = os.path.join(tmp_path, "data")
    before = os.umask(0o077)
    try:
        with create(data) as pod:
            pod.make_directory("appsinfo")
            pod.write("pod", b"{}")
            found = {
                name: stat.S_IMODE(os.stat(os.path.join(pod.path, name)).st_mode)
                for name in (".", "appsinfo", "pod", "..", "../..")
            }
    finally:
        os.umask(before)
    assert found == {".": 0o750, "appsinfo": 0o750, "pod": 0o640, "..": 0o750, "../..": 0o750}


def test_the_group_is_handed_down(tmp_path: os.PathLike[str]) -> None:
    data = os.path.join(tmp_path, "data")
    os.mkdir(data)
    os.chown(data, 0, 4242)
    os.chmod(data, 0o2750)
    with create(data) as pod:
        pod.make_directory("appsinfo")
        pod.make_directory("layer", inherit=False)
        for name, mode in ((".", 0o2750), ("appsinfo", 0o2750), ("layer", 0o750)):
            found = os.stat(os.path.join(pod.path, name))
            assert (stat.S_IMODE(found.st_mode), found.st_gid) == (mode, 4242)


def test_files_are_read_only_if_they_are_files(data: str) -> None:
    with create(data) as pod:
        os.mkfifo(os.path.join(pod.path, "fifo"))
        os.symlink("/etc/passwd", os.path.join(pod.path, "link"))
        with pytest.raises(RktError, match="not a regular file"):
            pod.read("fifo")
        with pytest.raises(OSError):
            pod.read("link")
        pod.write("long", b"x" * 100)
        with pytest.raises(RktError, match="longer than 10 bytes"):
            pod.read("long", 10)


def test_a_manifest_that_cannot_be_understood_is_named(data: str) -> None:
    with create(data) as pod:
        assert pod.manifest == {}
        pod.write("pod", b"{")
        with pytest.raises(RktError, match=f"pod {pod.uuid} has an invalid manifest"):
            _ = pod.manifest


@pytest.mark.promise("P6")
def test_an_error_while_a_pod_is_made_leaves_nothing(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError):
        create(data)
    monkeypatch.undo()
    assert os.listdir(os.path.join(data, "pods", "embryo")) == []


def test_make_directory_names_what_failed(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        make_directory(os.path.join(tmp_path, "a", "b"), 0o755)
    assert caught.value.filename == os.path.join(tmp_path, "a", "b")
