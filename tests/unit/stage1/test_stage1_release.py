"""Which systemd the host has, told without asking it."""

from __future__ import annotations

import os
import subprocess

import pytest

from rkt.stage1.systemd import release


def test_the_version_is_what_the_program_says() -> None:
    said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True).stdout
    assert release.version() == int(said.split()[1])


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("lib/systemd/libsystemd-shared-247.so", 247),
        ("lib64/systemd/libsystemd-shared-253.10-1.fc38.so", 253),
        ("lib/systemd/libsystemd-shared-257~rc1.so", 257),
        ("lib/systemd/libsystemd-shared.so", 0),
        ("lib/systemd/systemd", 0),
    ],
)
def test_names_of_distributions(tmp_path: os.PathLike[str], path: str, version: int) -> None:
    file = os.path.join(tmp_path, path)
    os.makedirs(os.path.dirname(file))
    with open(file, "w"):
        pass
    assert release.version(os.fspath(tmp_path)) == version


def test_a_host_without_systemd(tmp_path: os.PathLike[str]) -> None:
    assert release.version(os.fspath(tmp_path)) == 0
