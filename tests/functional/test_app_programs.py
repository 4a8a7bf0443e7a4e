"""Which program an app and its event handlers are, and where it starts: search, relative names, odd paths."""

from __future__ import annotations

import os

import pod_manifests as manifests
import pytest
from flavors import Flavor
from systemd_pod import changed_stage1, pods, run

from support import aci, driver

pytest_plugins = ("flavor_fixtures",)


def script(name: str, text: str) -> aci.Entry:
    return aci.Entry(name, f"#!/bin/sh\n{text}\n".encode(), mode=0o755)


@pytest.fixture
def image(tmp_path: os.PathLike[str]) -> str:
    """Programs of one name in several directories, and some that have odd names."""
    entries = [aci.directory("opt"), aci.directory("opt/bin"), aci.symlink("elsewhere", "opt/bin")]
    entries += [script(f"{where}/tool", f"echo {where}; pwd") for where in ("opt/bin", "opt", "bin", "usr")]
    entries += [script("opt/it's", "echo odd"), script("opt/bin/-x", "echo minus")]
    return aci.busybox(os.path.join(tmp_path, "tools.aci"), "example.com/tools", entries=entries)


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        (["--exec=tool"], ["bin", "/"]),
        (["--exec=tool", "--environment=PATH=/opt/bin:/bin"], ["opt/bin", "/"]),
        (["--exec=tool", "--environment=PATH=/nosuch:bin", "--working-dir=/opt"], ["opt/bin", "/opt"]),
        (["--exec=-x", "--environment=PATH=/opt/bin"], ["minus"]),
        (["--exec=bin/tool", "--working-dir=/opt"], ["opt/bin", "/opt"]),
        (["--exec=./tool", "--working-dir=/opt"], ["opt", "/opt"]),
        (["--exec=../tool", "--working-dir=/opt/bin"], ["opt", "/opt/bin"]),
        (["--exec=/opt/../usr/tool", "--working-dir=//opt//"], ["usr", "/opt"]),
        (["--exec=/bin/pwd", "--working-dir=/bin/../opt/."], ["/opt"]),
        (["--exec=/bin/pwd", "--working-dir=/elsewhere/.."], ["/opt"]),
    ],
)
def test_the_program_and_its_directory(
    flavor: Flavor, image: str, flags: list[str], lines: list[str]
) -> None:
    result = flavor(image, *flags)
    assert (result.code, flavor.lines(result)) == (0, lines), result


def test_without_a_path_of_its_own(flavor: Flavor, image: str) -> None:
    """The directory it starts in, /bin, /usr/bin; under fly rkt's default PATH."""
    found = {"host": "usr", "fly": "bin"}[flavor.name]
    result = flavor(image, "--exec=tool", "--working-dir=/usr")
    assert (result.code, flavor.lines(result)) == (0, [found, "/usr"]), result


def test_programs_of_event_handlers(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    """They are found as the app's own program is."""
    handlers = [{"name": "pre-start", "exec": ["tool"]}, {"name": "post-stop", "exec": ["bin/tool"]}]
    members = {
        "eventHandlers": handlers,
        "workingDirectory": "/opt",
        "environment": [{"name": "PATH", "value": "/usr:/bin"}],
    }
    entry = manifests.app("box", manifests.fetch(rkt, image), "echo", "app", app=members)
    result = flavor(manifests.write(rkt, entry))
    assert (result.code, flavor.lines(result)) == (0, ["usr", "/opt", "app", "opt/bin", "/opt"]), result


@pytest.mark.promise("P9")
@pytest.mark.parametrize("path", ["/opt/it's", "/bin/", '/opt/"', "/opt/\\", "/opt/\x7f", "/" + "x" * 256])
def test_paths_that_systemd_does_not_take_are_refused(
    rkt: driver.Rkt, flavor: Flavor, image: str, path: str
) -> None:
    """A unit that systemd cannot read would leave a pod without its app, for ever."""
    if flavor.name == "fly":
        assert flavor(image, "--exec=/opt/it's").out == "odd\n"
        return
    result = flavor(image, f"--exec={path}")
    assert result.code == 254, result
    failure = [line for line in result.err.splitlines() if not line.startswith("networking: ")]
    assert len(failure) == 1, result
    assert 'stage1: app "tools": systemd cannot execute "/' in failure[0]
    assert rkt.ok("list", "--no-legend").out.strip() == ""


@pytest.mark.promise("P9")
def test_a_unit_that_systemd_cannot_read_ends_the_pod(
    rkt: driver.Rkt, box: str, tmp_path: os.PathLike[str]
) -> None:
    """Whatever a unit may still hold that systemd refuses: the pod fails, it does not wait for ever."""
    units, begin = "rkt/stage1/systemd/units.py", '("ExecStart", "{} --block-signal=TERM'
    stage1 = changed_stage1(
        os.fspath(tmp_path), units, begin.format("/usr/bin/env"), begin.format("no/where")
    )
    result = run(rkt, f"--stage1-path={stage1}", box, "--exec=/bin/sleep", "--", "1000")
    assert result.code not in (0, None), result
    (uuid,) = pods(rkt)
    assert rkt.ok("status", uuid).out.startswith("state=exited\n")
