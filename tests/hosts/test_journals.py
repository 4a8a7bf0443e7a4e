"""What apps write, on hosts that keep a journal and on those that do not."""

from __future__ import annotations

import os

import pytest
from host_pods import SECONDS, Pod, rkt, until

from support import hosts

JOURNALS = "/var/log/journal"


@pytest.fixture(scope="module")
def host(systemd_host: hosts.Host) -> hosts.Host:
    return systemd_host


@pytest.fixture(scope="module")
def image(systemd_image: str) -> str:
    return systemd_image


def messages(host: hosts.Host, *options: str) -> list[str]:
    return host.ok(["journalctl", "--no-pager", "--quiet", "--output=cat", *options]).out.splitlines()


def link(pod: Pod) -> str:
    return os.path.join(JOURNALS, pod.uuid.replace("-", ""))


@pytest.mark.promise("P7")
def test_the_journal_of_a_pod_is_linked_into_that_of_the_host(host: hosts.Host, image: str) -> None:
    """By machine and identifier while it runs, by directory until it is removed; the link goes with it."""
    pod = Pod(host, "writes").start(image, "echo one; echo two >&2; touch /said; while :; do sleep 0.1; done")
    pod.wait_for("/said")
    words = [f"--machine={pod.machine}", "--identifier=box"]
    until("the journal has not got it", lambda: messages(host, *words) == ["one", "two"])
    assert messages(host, f"--machine={pod.machine}", "--unit=box.service") == ["one", "two"]
    assert host.ok(["readlink", link(pod)]).out.startswith(f"{pod.directory}/stage1/rootfs/var/log/journal/")
    assert rkt(host, "stop", "--force", pod.uuid).code == 0
    assert pod.process is not None
    pod.process.wait(SECONDS)
    assert messages(host, f"--directory={link(pod)}", "--identifier=box") == ["one", "two"]
    path = link(pod)
    pod.remove()
    assert host.run(["test", "-L", path]).code == 1


def test_the_journal_of_the_host_has_it_by_unit(host: hosts.Host, image: str) -> None:
    """A unit's output is its pod's; the pod's own journal has it by app."""
    words = Pod(host, "unit-writes").words(image, "echo from the app")
    host.ok(["systemd-run", "--quiet", "--wait", "--unit=unit-writes", *words], SECONDS)
    host.ok(["journalctl", "--sync"])
    said = messages(host, "--unit=unit-writes")
    assert [line for line in said if line.endswith("]: from the app")] != [], said
    assert rkt(host, "gc", "--grace-period=0s").code == 0


@pytest.mark.parametrize("journal", ["on-disk", "in-memory"])
def test_rkt_reads_a_journal_on_every_host(host: hosts.Host, image: str, journal: str) -> None:
    """While the pod runs and after it ended; by app, from some time on, the last lines, and as they come."""
    if journal == "in-memory":
        host.ok(["mv", JOURNALS, f"{JOURNALS}.away"])
    try:
        script = "for n in 1 2 3; do echo line $n; done; touch /said; while ! [ -e /end ]; do sleep 0.1; done"
        pod = Pod(host, "logs").start(image, f"{script}; echo last")
        pod.wait_for("/said")
        followed = host.spawn([hosts.RKT, "logs", "--follow", pod.uuid])
        until("no line is there", lambda: len(rkt(host, "logs", pod.uuid).lines) == 3)
        assert rkt(host, "logs", "--app=box", "--lines=1", pod.uuid).out.endswith(": line 3\n")
        assert rkt(host, "logs", "--since=1h", pod.uuid).lines != []
        assert rkt(host, "logs", "--app=other", pod.uuid).code == 254
        assert host.run(["test", "-L", link(pod)]).code == (0 if journal == "on-disk" else 1)
        assert rkt(host, "enter", pod.uuid, "/bin/touch", "/end").code == 0
        assert pod.process is not None
        pod.process.wait(SECONDS)
        lines = [line.split(": ", 1)[1] for line in followed.wait(SECONDS).out.splitlines()]
        assert lines == ["line 1", "line 2", "line 3", "last"]
        after = [line.split(": ", 1)[1] for line in rkt(host, "logs", pod.uuid).lines]
        assert after == lines
        pod.remove()
    finally:
        if journal == "in-memory":
            host.ok(["mv", f"{JOURNALS}.away", JOURNALS])
