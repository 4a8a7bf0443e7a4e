"""One boot of each host for all tests of a session; a host that does not start is an error, never a skip."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from host_recovery import Recovery

from support import aci, driver, hosts

# A first build downloads packages, and everything in the virtual machine is emulated.
TIMEOUT_SECONDS = 900
IMAGE = "/var/lib/images/box.aci"


HERE = os.path.dirname(os.path.abspath(__file__)) + "/"
BOOTED: list[Recovery] = []
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the virtual machine is marked: a process of its own can run that beside everything else."""
    for item in items:
        if os.fspath(item.path).startswith(HERE):
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            if "virtual_machine" in (*getattr(item, "fixturenames", ()), parameters.get("host")):
                item.add_marker("emulated")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test that failed has left on the hosts is taken away, so that one failure stays one."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    if call.when == "teardown" and item.stash.get(FAILED, False):
        for recovery in BOOTED:
            recovery.recover()
    return report


@pytest.fixture(scope="session")
def systemd_host() -> Iterator[hosts.Host]:
    """systemd is process 1, on the machine's kernel and cgroup hierarchies."""
    with hosts.SystemdHost() as host:
        BOOTED.append(Recovery(host))
        yield host


@pytest.fixture(scope="session")
def virtual_machine() -> Iterator[hosts.Host]:
    """Debian's kernel with cgroup v2."""
    with hosts.VirtualMachine() as host:
        BOOTED.append(Recovery(host))
        yield host


@pytest.fixture(scope="session", params=["systemd_host", "virtual_machine"])
def host(request: pytest.FixtureRequest) -> hosts.Host:
    """Each of the two in turn."""
    value: hosts.Host = request.getfixturevalue(request.param)
    return value


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a busybox image on the machine."""
    assert os.path.exists(driver.STAGE1), "no stage1 images: make stage1"
    return aci.busybox(os.fspath(tmp_path_factory.mktemp("images") / "box.aci"))


@pytest.fixture(scope="session")
def image(host: hosts.Host, archive: str) -> str:
    """The path of that image in each host."""
    return host.put(archive, IMAGE)


@pytest.fixture(scope="session")
def systemd_image(systemd_host: hosts.Host, archive: str) -> str:
    """The same for tests on the systemd host only."""
    return systemd_host.put(archive, IMAGE)


@pytest.fixture(scope="session")
def machine_image(virtual_machine: hosts.Host, archive: str) -> str:
    """The same for tests on the virtual machine only."""
    return virtual_machine.put(archive, IMAGE)
