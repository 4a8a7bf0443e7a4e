from __future__ import annotations

import os
import sys

import pytest

from rkt.linux import process
from rkt.linux.lock import Lock, lock_file


def test_shared_and_exclusive(tmp_path):
    path = os.fspath(tmp_path)
    with Lock.open(path) as first, Lock.open(path) as second:
        assert first.try_shared()
        assert second.try_shared()
        assert not second.try_exclusive()
        first.unlock()
        assert second.try_exclusive()
        assert not first.try_shared()


def test_closing_lets_go(tmp_path):
    path = os.fspath(tmp_path)
    first = Lock.open(path).exclusive()
    with Lock.open(path) as second:
        assert not second.try_shared()
        first.close()
        first.close()
        assert second.try_shared()


def test_waiting_is_called_once_and_only_when_it_must_wait(tmp_path):
    path = os.fspath(tmp_path)
    calls = []
    with Lock.open(path) as lock:
        lock.exclusive(lambda: calls.append("free"))
    holder = Lock.open(path).exclusive()
    with Lock.open(path) as lock:

        def waiting() -> None:
            calls.append("held")
            holder.close()

        lock.shared(waiting)
    assert calls == ["held"]


def test_a_lock_passes_through_exec(tmp_path):
    path = os.fspath(tmp_path)
    lock = Lock.open(path).exclusive()
    pid = process.spawn(["/bin/sleep", "60"], env={}, pass_fds=[lock.fd])
    lock.close()
    try:
        with Lock.open(path) as other:
            assert not other.try_shared()
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            assert other.try_exclusive()
    except BaseException:
        os.kill(pid, 9)
        raise


def test_key_lock_notices_a_replaced_file(tmp_path):
    path = f"{tmp_path}/key"
    holder = lock_file(path)
    rounds = []

    def waiting() -> None:
        rounds.append(1)
        os.unlink(path)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        holder.close()

    with lock_file(path, waiting=waiting) as lock:
        assert lock.is_current()
        assert len(rounds) == 1


def test_the_path_is_in_the_error(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        Lock.open(f"{tmp_path}/none")
    assert caught.value.filename == f"{tmp_path}/none"


def test_works_without_the_c_library():
    modules = ", ".join(f"rkt.linux.{name}" for name in ("lock", "files", "mountinfo", "process", "users"))
    code = f"import sys, {modules}; print(*sys.modules)"
    done = process.run([sys.executable, "-ISc", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"])
    loaded = done.stdout.decode().split()
    for heavy in ("ctypes", "typing", "re", "enum", "subprocess", "contextlib", "functools", "signal"):
        assert heavy not in loaded
