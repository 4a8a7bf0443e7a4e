"""Workers: what they may do, what meets them when they try more, and how they end.  Needs root."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from rkt.errors import Context, RktError, chain
from rkt.linux import capabilities, process
from rkt.store import confined
from rkt.store.confined import tasks
from rkt.store.confined.answers import WorkerError
from support import worker

NOBODY = 65534


@pytest.fixture(autouse=True)
def known_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    monkeypatch.setattr(confined, "_START", confined._START)
    monkeypatch.setattr(confined, "_listeners", [])
    monkeypatch.setattr(confined, "_told", set())
    worker.install()


@pytest.fixture
def place(tmp_path: os.PathLike[str]) -> Iterator[str]:
    """A directory for everybody: ``inside`` is the worker's, ``outside`` is not."""
    top = os.fspath(tmp_path)
    while os.stat(top).st_uid == 0 and not os.stat(top).st_mode & stat.S_IXOTH:
        os.chmod(top, 0o755)
        top = os.path.dirname(top)
    base = os.fspath(tmp_path)
    for name in ("inside", "outside"):
        os.mkdir(os.path.join(base, name))
        os.chmod(os.path.join(base, name), 0o777)
    with open(os.path.join(base, "outside/secret"), "w") as file:
        file.write("secret")
    os.chmod(os.path.join(base, "outside/secret"), 0o666)
    os.symlink(os.path.join(base, "outside"), os.path.join(base, "inside/out"))
    yield base


def call(task: str, fds: list[int] | None = None, **arguments: object) -> dict[str, object]:
    return confined.call(f"{worker.MODULE}:{task}", arguments, fds or [])


def waiting(*fds: int) -> tuple[confined.Worker, int]:
    """A worker that waits for ever, and its pid."""
    reader, writer = os.pipe()
    started = confined.Worker(f"{worker.MODULE}:task_sleep", {}, [writer, *fds])
    os.close(writer)
    with os.fdopen(reader) as file:
        return started, int(file.readline())


class TestAnswers:
    def test_result(self, tmp_path: os.PathLike[str]) -> None:
        fds = []
        for text in ("one", "two"):
            path = os.path.join(os.fspath(tmp_path), text)
            with open(path, "w") as file:
                file.write(text)
            fds.append(os.open(path, os.O_RDONLY))
        # The order counts, not the numbers they have here.
        result = call("task_echo", fds[::-1], word="für", list=[1, None, {"a": True}])
        assert result["arguments"] == {"word": "für", "list": [1, None, {"a": True}]}
        assert result["contents"] == ["two", "one"]
        for fd in fds:
            os.close(fd)

    def test_large_request_and_answer(self) -> None:
        words = "x" * (1 << 20)
        result = call("task_echo", word=words)
        assert result["arguments"] == {"word": words}

    def test_chain_of_errors(self) -> None:
        with pytest.raises(RktError) as caught:
            call("task_fail", kind="chain")
        links = chain(caught.value)
        assert isinstance(links[0], Context)
        assert str(links[0]) == "image cannot be imported"
        assert isinstance(links[1], RktError)
        assert (links[1].message, links[1].hint) == ("cannot unpack 'x'", "try again")
        assert isinstance(links[2], FileNotFoundError)
        assert links[2].filename == "/no/such/file"

    def test_system_error(self) -> None:
        with pytest.raises(OSError, match="No space left") as caught:
            call("task_fail", kind="os")
        assert caught.value.filename == "/there"

    def test_too_much_memory(self) -> None:
        with pytest.raises(RktError, match="needs more memory than a worker may have"):
            call("task_fail", kind="memory")

    def test_killed(self) -> None:
        with pytest.raises(RktError, match="was killed by signal"):
            call("task_fail", kind="signal")

    def test_ended_without_an_answer(self) -> None:
        with pytest.raises(WorkerError, match="exited 3 without an answer"):
            call("task_fail", kind="exit")

    def test_defect_names_its_place(self) -> None:
        with pytest.raises(WorkerError, match=r"KeyError: 'missing' \(.*worker.py:\d+ in task_fail\)"):
            call("task_fail", kind="defect")

    @pytest.mark.parametrize(
        "text",
        [
            "\0{",
            "\0[]",
            "\0{}",
            '\0{"result": 7}',
            '\0{"errors": []}',
            '\0{"errors": [7]}',
            '\0{"errors": [{"errno": "x"}]}',
            '\0{"errors": {}}',
            '\0{"result": {}, "missing": 7}',
            "\0" + "[" * 100_000,
        ],
    )
    def test_answer_that_is_none(self, text: str) -> None:
        with pytest.raises(RktError, match="cannot be understood"):
            call("task_answer", text=text)

    def test_answer_without_end(self) -> None:
        with pytest.raises(RktError, match="answers with more than"):
            call("task_answer", text="x" * (1 << 20), times=100)

    def test_unknown_task(self) -> None:
        with pytest.raises(AssertionError):
            confined.call("os:system", {}, [])

    def test_table_names_what_there_is(self) -> None:
        for task in tasks.TASKS:
            if not task.startswith(worker.MODULE):
                name, _, function = task.partition(":")
                module = __import__(f"rkt.store.{name}", fromlist=[function])
                assert callable(getattr(module, function))


class TestConfinement:
    @pytest.mark.promise("P4")
    @pytest.mark.parametrize("user", [None, NOBODY], ids=["root", "user"])
    def test_nothing_else_can_be_reached(self, place: str, user: int | None) -> None:
        inside, outside = os.path.join(place, "inside"), os.path.join(place, "outside")
        if user is None:
            os.mknod(os.path.join(inside, "device"), 0o020666, os.makedev(1, 3))
        result = worker.run_as(
            user, "task_attack", {"outside": outside, "device": user is None}, inside, trees=True
        )
        assert result["missing"] == []
        met = result["met"]
        assert [name for name, code in met.items() if not code] == []
        # As root the path does not exist, for there is nothing else; as a user Landlock refuses it.
        refused = {"EPERM", "ENOENT", "ENOTDIR"} if user is None else {"EPERM", "EACCES", "EXDEV"}
        assert {name: code for name, code in met.items() if code not in refused | {"EACCES"}} == {}
        for name in (
            "socket",
            "exec",
            "fork",
            "kill",
            "ptrace",
            "mount",
            "unshare",
            "keyctl",
            "bpf",
            "limit",
        ):
            assert met[name] == "EPERM", name
        assert sorted(os.listdir(outside)) == ["secret"]
        assert stat.S_IMODE(os.stat(os.path.join(outside, "secret")).st_mode) == 0o666

    @pytest.mark.promise("P4")
    @pytest.mark.parametrize("user", [None, NOBODY], ids=["root", "user"])
    def test_streams_have_no_paths(self, place: str, user: int | None) -> None:
        inside, outside = os.path.join(place, "inside"), os.path.join(place, "outside")
        result = worker.run_as(user, "task_attack", {"outside": outside}, inside, trees=False)
        assert set(result["met"].values()) <= {"EPERM", "EACCES"}

    @pytest.mark.parametrize("user", [None, NOBODY], ids=["root", "user"])
    def test_trees_can_be_made(self, place: str, user: int | None) -> None:
        inside = os.path.join(place, "inside")
        result = worker.run_as(user, "task_trees", {}, inside)
        names = ["f", "h", "p", "s"] if user else ["f", "h", "null", "p", "s"]
        assert result["names"] == names
        status = os.stat(os.path.join(inside, "d/f"))
        assert (status.st_size, status.st_nlink, status.st_mtime_ns) == (100, 2, 5)
        if user is None:
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 8, 0o4755)
            assert os.lstat(os.path.join(inside, "d/s")).st_uid == 9
            assert os.stat(os.path.join(inside, "d/null")).st_rdev == os.makedev(1, 3)

    @pytest.mark.parametrize(
        ("trees", "names"),
        [(True, ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]), (False, [])],
        ids=["trees", "streams"],
    )
    def test_as_the_kernel_sees_it(self, place: str, trees: bool, names: list[str]) -> None:
        for task in list(tasks.TASKS):
            if task.startswith(worker.MODULE):
                del tasks.TASKS[task]
        worker.install(trees=trees)
        directory = os.open(place, os.O_RDONLY)
        started, pid = waiting(directory)
        os.close(directory)
        with started:
            with open(f"/proc/{pid}/status") as file:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            kept = sum(1 << capabilities.NUMBERS["CAP_" + name] for name in names)
            found = {
                name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")
            }
            assert found == {"CapEff": kept, "CapPrm": kept, "CapBnd": kept, "CapInh": 0, "CapAmb": 0}
            assert (status["NoNewPrivs"], status["Seccomp"], status["Threads"]) == ("1", "2", "1")
            assert sorted(map(int, os.listdir(f"/proc/{pid}/fd"))) == [0, 1, 2, 3, 4]
            limits = process.limits(pid)
            assert limits[resource.RLIMIT_AS] == (4 << 30, 4 << 30)
            assert limits[resource.RLIMIT_CORE] == (0, 0)
            assert os.readlink(f"/proc/{pid}/root") == "/"
            assert os.listdir(f"/proc/{pid}/root") == ([] if trees else os.listdir("/"))

    def test_threads_are_allowed(self) -> None:
        assert call("task_thread") == {"found": [7]}

    def test_a_container_around_rkt_leaves_the_rest(self, place: str) -> None:
        """Without CAP_SYS_ADMIN there is no jail; Landlock and the filter remain, and rkt says so."""
        outside = os.path.join(place, "outside")
        program = os.path.join(os.path.dirname(worker.__file__), "worker.py")
        arguments = json.dumps({"outside": outside})
        argv = [sys.executable, program, worker.SOURCE, "task_attack", arguments, "1", f"{place}/inside"]
        done = subprocess.run(
            ["setpriv", "--bounding-set=-sys_admin,-sys_chroot", *argv],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert len(result["missing"]) == 1
        assert "no root directory of their own" in result["missing"][0]
        assert [name for name, code in result["met"].items() if not code] == []


class TestEnding:
    def test_leaving_kills(self) -> None:
        started, pid = waiting()
        with started:
            assert process.is_alive(pid)
        assert not process.is_alive(pid)
        started.kill()

    def test_outlives_the_thread_that_started_it(self) -> None:
        found: list[tuple[confined.Worker, int]] = []
        thread = threading.Thread(target=lambda: found.append(waiting()))
        thread.start()
        thread.join()
        started, pid = found[0]
        with started:
            assert process.is_alive(pid)

    def test_several_at_once(self) -> None:
        results: list[dict[str, object]] = []

        def run(number: int) -> None:
            results.append(call("task_echo", number=number))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        numbers = sorted(str(result["arguments"]) for result in results)
        assert numbers == [str({"number": number}) for number in range(8)]

    @pytest.mark.promise("P1")
    def test_ends_with_rkt(self) -> None:
        reader, writer = os.pipe()
        code = (
            f"import sys; sys.path[:0] = [{worker.SOURCE!r}, {worker.TESTS!r}]\n"
            "from support import worker; worker.install()\n"
            "from rkt.store import confined\n"
            f"confined.Worker({worker.MODULE + ':task_sleep'!r}, {{}}, [{writer}]).wait()"
        )
        parent = subprocess.Popen([sys.executable, "-c", code], pass_fds=[writer])
        os.close(writer)
        with os.fdopen(reader) as file:
            pid = int(file.readline())
            watched = process.pidfd_open(pid)
            parent.kill()
            parent.wait()
            assert process.wait(watched, 60)
            os.close(watched)
            # Nobody else has the pipe.
            assert file.read() == ""

    def test_fds_of_rkt_are_closed(self) -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        call("task_echo")
        with pytest.raises(WorkerError):
            call("task_fail", kind="exit")
        assert sorted(os.listdir("/proc/self/fd")) == before
