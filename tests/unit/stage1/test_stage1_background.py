"""A function beside the caller: its result, its error, and that nothing runs on after the end."""

from __future__ import annotations

import threading

import pytest

from rkt.stage1.common.background import Background


def test_result_is_waited_for() -> None:
    go = threading.Event()

    def work() -> str:
        go.wait(10)
        return "done"

    with Background(work) as background:
        background.start()
        background.start()
        go.set()
        assert background.result() == "done"
        assert background.result() == "done"


def test_error_is_raised_where_the_result_is_wanted() -> None:
    def fail() -> str:
        raise OSError(28, "no space")

    with Background(fail) as background, pytest.raises(OSError, match="no space"):
        background.result()


def test_end_waits_although_the_caller_fails() -> None:
    ended = []

    def work() -> str:
        ended.append(threading.current_thread())
        return ""

    with pytest.raises(ZeroDivisionError), Background(work) as background:
        background.start()
        raise ZeroDivisionError
    assert len(ended) == 1
    assert ended[0] is not threading.current_thread()


def test_what_is_never_started_does_not_run() -> None:
    with Background(lambda: pytest.fail("must not run")):
        pass
