"""Fixtures for tests of flavor fly: its image, running it, and what must not be left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fly_pod import Run, argv, mounts_below, shell

from support import driver
from support.driver import Result, Rkt


@pytest.fixture(scope="session")
def stage1_fly(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The stage1 image of the code under test."""
    path = os.path.join(tmp_path_factory.mktemp("stage1"), "stage1-fly.aci")
    subprocess.run(
        [sys.executable, "-m", "rkt.stage1.build", "--flavor=fly", f"--output={path}"],
        env={**os.environ, "PYTHONPATH": os.path.join(driver.ROOT, "src")},
        check=True,
    )
    return path


@pytest.fixture
def fly(rkt: Rkt, stage1_fly: str) -> Iterator[Run]:
    """Runs an image with ``rkt run`` under fly; afterwards gc must leave no mount and no pod."""

    def run(*words: str, insecure: str = "image", verb: str = "run", **options: Any) -> Result:
        return rkt(f"--insecure-options={insecure}", verb, f"--stage1-path={stage1_fly}", *words, **options)

    yield run
    rkt.clean()
    assert mounts_below(rkt.dir) == []
    for state in ("run", "exited-garbage", "prepare", "garbage"):
        assert os.listdir(os.path.join(rkt.dir, "pods", state)) == []


@pytest.fixture
def started(rkt: Rkt, stage1_fly: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts an app that prints ``ready`` and stays; killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(image: str, script: str, *flags: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            argv(rkt, stage1_fly, image, *shell(script, *flags)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=rkt.environment,
            **options,
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", (line, process.stderr.read() if process.stderr else "")
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def source(tmp_path: os.PathLike[str]) -> str:
    path = os.path.join(tmp_path, "source")
    os.mkdir(path)
    with open(os.path.join(path, "file"), "w") as file:
        file.write("host\n")
    return path
