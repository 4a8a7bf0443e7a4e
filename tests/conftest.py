"""Shared fixtures: the program with a data directory of its own, images, and a clean machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from support import aci, driver, machine
from support.waiting import until


@pytest.fixture
def rkt(tmp_path: os.PathLike[str]) -> Iterator[driver.Rkt]:
    """bin/rkt with its own data and configuration directories, emptied at the end."""
    program = driver.Rkt(os.fspath(tmp_path))
    yield program
    program.clean()


@pytest.fixture(scope="session")
def _settled() -> None:
    """What other test runs have left to the kernel to take away is gone."""
    snapshots = [machine.Snapshot()]

    def settled() -> bool:
        time.sleep(1)
        snapshots.append(machine.Snapshot())
        return snapshots[-2].difference(snapshots[-1]) == {}

    until(settled, "the machine changes by itself")


@pytest.fixture
def clean_machine(_settled: None) -> Iterator[None]:
    """Fails a test that leaves a mount, cgroup, namespace, link, rule or lease behind."""
    before = machine.Snapshot()
    yield
    assert before.lasting_difference() == {}


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of an unsigned busybox image called example.com/box, version 1."""
    return aci.busybox(os.fspath(tmp_path_factory.mktemp("images") / "box.aci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What compares the whole machine before and after cannot share it with other tests: mark it."""
    for item in items:
        if "clean_machine" in getattr(item, "fixturenames", ()):
            item.add_marker("alone")
