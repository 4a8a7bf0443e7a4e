from __future__ import annotations

import os
import resource

import pytest

from rkt.errors import RktError, describe
from rkt.linux import process


def test_output_status_and_environment():
    done = process.run(["sh", "-c", "echo out; echo err >&2; env; exit 3"], env={"A": "b"}, check=False)
    assert done.status == 3
    assert done.stderr == b"err\n"
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "out"
    assert {line.partition("=")[0] for line in lines[1:]} <= {"A", "PWD", "SHLVL", "_"}


def test_much_input_and_output_do_not_block():
    data = bytes(range(256)) * 8192
    assert process.run(["cat"], input=data).stdout == data
    assert process.run(["true"], input=data).stdout == b""


def test_without_input_it_reads_nothing():
    assert process.run(["cat"]).stdout == b""


def test_failure_quotes_the_last_words_and_the_command():
    with pytest.raises(RktError, match="sh exited 4: it is broken") as caught:
        process.run(["sh", "-c", "echo first; echo it is broken >&2; exit 4"])
    assert caught.value.hint == "command: sh -c 'echo first; echo it is broken >&2; exit 4'"
    with pytest.raises(RktError, match="sh was killed by signal 9"):
        process.run(["sh", "-c", "kill -9 $$"])


def test_time_limit_kills():
    with pytest.raises(RktError, match="sleep did not end in time"):
        process.run(["sleep", "1000"], timeout=0.2)
    assert process.children(os.getpid()) == []


def test_a_grandchild_that_keeps_the_pipes_does_not_hold_us():
    done = process.run(["sh", "-c", "sleep 60 & echo $!"])
    os.kill(int(done.stdout), 9)


def test_output_is_limited():
    with pytest.raises(RktError, match="wrote more than"):
        process.run(["cat", "/dev/zero"], limit=100_000)


@pytest.mark.parametrize("cwd", [None, "/"])
def test_missing_program_is_named(cwd):
    with pytest.raises(FileNotFoundError) as caught:
        process.spawn(["/no/program"], env={}, cwd=cwd)
    assert describe(caught.value) == "exec /no/program: no such file or directory"


@pytest.mark.parametrize("cwd", [None, "/usr"])
def test_only_named_fds_are_passed(cwd, tmp_path):
    kept = os.open(tmp_path, os.O_RDONLY)
    secret = os.open("/etc", os.O_RDONLY)
    try:
        os.set_inheritable(secret, False)
        done = process.run(
            ["sh", "-c", f"readlink /proc/self/fd/{kept}; readlink /proc/self/fd/{secret}; pwd"],
            pass_fds=[kept],
            cwd=cwd,
        )
    finally:
        os.close(kept)
        os.close(secret)
    assert done.stdout.decode().splitlines() == [os.fspath(tmp_path), cwd or os.getcwd()]


@pytest.mark.parametrize("cwd", [None, "/"])
def test_ignored_signals_have_their_default_effect(cwd):
    status = process.run(["cat", "/proc/self/status"], cwd=cwd).stdout.decode()
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) & (1 << 12 | 1 << 24) == 0


def test_children_and_start_time():
    pid = process.spawn(["sleep", "60"], env={})
    try:
        assert process.children(os.getpid()) == [pid]
        started = process.start_time(pid)
        assert started is not None
        assert started >= (process.start_time(os.getpid()) or 0)
        assert process.is_alive(pid)
        fd = process.pidfd_open(pid)
        assert not process.wait(fd, 0)
        process.pidfd_send_signal(fd, 15)
        assert process.wait(fd, 10)
        assert not process.is_alive(pid)
        os.close(fd)
    finally:
        status = os.waitpid(pid, 0)[1]
    assert process.exit_code(status) == 128 + 15
    assert process.start_time(pid) is None
    assert process.children(pid) == []


def test_dumpable_and_death_signal():
    pid = os.fork()
    if pid == 0:
        process.set_dumpable(False)
        process.set_parent_death_signal(9)
        process.set_name("a-very-long-name-of-a-thread")
        with open("/proc/self/comm") as file:
            os._exit(0 if file.read() == "a-very-long-nam\n" and os.stat("/proc/self/fd").st_uid == 0 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_title_takes_the_place_of_the_words():
    with open("/proc/self/cmdline", "rb") as file:
        length = len(file.read())
    pid = os.fork()
    if pid == 0:
        shown = []
        for title in ("title", "long" * 10000):
            process.set_title(title)
            with open("/proc/self/cmdline", "rb") as file:
                shown.append(file.read().rstrip(b"\0"))
        os._exit(0 if shown == [b"title", (b"long" * 10000)[: length - 1]] else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_quoting():
    assert process.quote(["a", "", "b c", "it's", "x=1"]) == """a '' 'b c' 'it'"'"'s' x=1"""


def test_limits_are_those_of_getrlimit():
    found = process.limits(os.getpid())
    assert (
        len(found) == len([name for name in dir(resource) if name.startswith("RLIMIT_")]) - 1
    )  # OFILE: an alias
    assert {number: resource.getrlimit(number) for number in found} == found
