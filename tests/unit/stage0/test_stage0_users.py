"""Ranges of user IDs never overlap."""

from __future__ import annotations

import os

import pytest

from rkt.errors import RktError
from rkt.pod.pod import create
from rkt.stage0 import users

pytestmark = pytest.mark.promise("P8")


@pytest.fixture
def data(tmp_path: os.PathLike[str]) -> str:
    return os.path.join(tmp_path, "data")


def choose(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """The random numbers of the next choices; the range is number + 1."""
    pending = [(number - 1).to_bytes(4, "little") for number in numbers]
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda size: pending.pop(0) if size == 4 else real(size))
    monkeypatch.setattr(users, "_subordinate", set)


def test_the_record(data: str) -> None:
    with create(data) as pod:
        first, count = users.reserve(pod)
        assert count == 65536
        assert first % 65536 == 0
        assert 65536 <= first <= 0x7FFF << 16
        assert pod.read_text("private-users-prepared") == f"{first}:{count}"


@pytest.mark.parametrize("directory", ["prepare", "prepared", "run", "exited-garbage", "garbage"])
def test_the_range_of_another_pod_is_left_alone(
    data: str, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, 7, 7, 7, 9)
    with create(data) as other, create(data) as pod:
        assert users.reserve(other)[0] == 7 << 16
        if directory != "prepare":
            os.rename(other.path, os.path.join(data, "pods", directory, other.uuid))
        assert users.reserve(pod)[0] == 9 << 16


def test_of_two_at_the_same_time_at_least_one_chooses_again(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one writes the same choice after ours was written and before we look."""
    choose(monkeypatch, 7, 8)
    with create(data) as other, create(data) as pod:
        write = type(pod).write

        def and_then_the_other(self: object, name: str, content: bytes | str, mode: int = 0o640) -> None:
            write(pod, name, content, mode)
            if content == f"{7 << 16}:65536":
                write(other, name, content, mode)

        monkeypatch.setattr(type(pod), "write", and_then_the_other)
        assert users.reserve(pod)[0] == 8 << 16


def test_no_range_is_left(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_subordinate", lambda: set(range(1, 0x8000)))
    with create(data) as pod:
        with pytest.raises(RktError, match="no range of user IDs is free"):
            users.reserve(pod)
        assert not pod.exists("private-users-prepared")


def test_subordinate_ids_of_users_are_avoided(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.path.join(tmp_path, "subuid")
    with open(path, "w") as file:
        file.write("a:100000:65536\nb:bad:1\n\nc:65536:1\n")
    monkeypatch.setattr(users, "_SUBORDINATE_FILES", (path, os.path.join(tmp_path, "missing")))
    assert users._subordinate() == {1, 2}


@pytest.mark.parametrize("text", ["", "1", "a:b", "1:", "-1:2"])
def test_a_record_that_is_none(text: str) -> None:
    assert users.parse(text) is None
