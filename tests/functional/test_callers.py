"""What the process that starts a pod is like makes no difference: its umask, its streams, its directory."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable

import pytest
from flavors import Flavor

from support import driver

pytest_plugins = ("flavor_fixtures",)


def closed(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


@pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])
@pytest.mark.parametrize("mode", [[], ["--no-overlay"]], ids=["overlay", "copy"])
def test_a_narrow_umask(flavor: Flavor, box: str, mode: list[str], users: list[str]) -> None:
    """Every user of the pod has what it has otherwise: its output, devices, empty volumes."""
    if users and flavor.name == "fly":
        return  # it has no user namespaces
    script = "umask; stat -c '%a %n' / /etc /run /dev /v; echo x > /dev/null; ls /v; echo end"
    result = flavor(
        *mode,
        *users,
        "--volume=v,kind=empty",
        box,
        "--mount=volume=v,target=/v",
        "--user=web",
        "--group=www",
        "--exec=/bin/sh",
        "--",
        "-c",
        script,
        preexec_fn=lambda: os.umask(0o077),
    )
    expected = ["0022", "755 /", "755 /etc", "755 /run", "755 /dev", "755 /v", "end"]
    assert (result.code, flavor.lines(result)) == (0, expected), result


def test_without_standard_error(flavor: Flavor, box: str) -> None:
    result = flavor.shell(box, "echo out; exit 3", preexec_fn=closed(2))
    assert (result.code, flavor.lines(result)) == (3, ["out"]), result


def test_without_standard_input_and_error(flavor: Flavor, box: str) -> None:
    result = flavor.shell(box, "cat; echo out; exit 3", preexec_fn=closed(0, 2))
    assert (result.code, flavor.lines(result)) == (3, ["out"]), result


def test_in_a_directory_that_is_gone(flavor: Flavor, box: str, tmp_path: os.PathLike[str]) -> None:
    place = os.path.join(tmp_path, "gone")
    os.mkdir(place)

    def leave() -> None:
        os.chdir(place)
        os.rmdir(place)

    result = flavor.shell(box, "pwd", preexec_fn=leave)
    assert (result.code, flavor.lines(result)) == (0, ["/"]), result


_LOADING = """
import os, runpy, signal, sys

def hook(event, arguments):
    if event == "import" and arguments[0] == module:
        os.kill(os.getpid(), signal.SIGINT)

module, *sys.argv = sys.argv[1:]
sys.addaudithook(hook)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("rkt", "rkt.cli.main"),
        ("stage1-host.aci", "rkt.stage1.systemd.init"),
        ("stage1-fly.aci", "rkt.stage1.fly.run"),
    ],
)
def test_ctrl_c_while_a_program_is_loaded(program: str, module: str, tmp_path: os.PathLike[str]) -> None:
    """It ends with one, and without a word about the inside of Python."""
    path = driver.RKT
    if program != "rkt":
        with tarfile.open(os.path.join(driver.STAGE1, program)) as archive:
            archive.extractall(tmp_path)
        path = os.path.join(tmp_path, "rootfs", "init" if "host" in program else "run")
    words = ["/usr/bin/python3", "-IS", "-c", _LOADING, module, path, "list"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
