"""A function beside the caller: its end, its error, and that nothing runs on after the end."""

from __future__ import annotations

import threading

import pytest

from rkt.stage1.common.background import Background


def test_it_runs_once_and_is_waited_for() -> None:
    go = threading.Event()
    runs = []

    def work() -> None:
        go.wait(10)
        runs.append(1)

    with Background(work) as background:
        background.start()
        background.start()
        go.set()
        background.wait()
        assert runs == [1]
        background.wait()
    assert runs == [1]


def test_error_is_raised_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise OSError(28, "no space")

    with Background(fail) as background, pytest.raises(OSError, match="no space"):
        background.wait()


def test_end_waits_although_the_caller_fails() -> None:
    ended = []

    def work() -> None:
        ended.append(threading.current_thread())

    with pytest.raises(ZeroDivisionError), Background(work) as background:
        background.start()
        raise ZeroDivisionError
    assert len(ended) == 1
    assert ended[0] is not threading.current_thread()


def test_what_is_never_started_does_not_run() -> None:
    with Background(lambda: pytest.fail("must not run")):
        pass
