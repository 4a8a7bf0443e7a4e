"""Who gets a port of the host that several pods want: exactly one, whoever is faster, killed or elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import network_host
import pytest
from network_host import UUID, Host

from support.waiting import until

PORT = [("tcp", "", 8080, 80)]
OTHER = "aaaaaaaa-4b5a-4978-8695-a4b3c2d1e0f1"
REFUSED = f"port tcp-0.0.0.0:8080 already mapped to pod port 80 of pod {UUID}"
# Stops between looking for other claims and writing its own, until its standard input has a line.
PAUSED = network_host._SETUP.replace(
    "before = os",
    """from rkt.network import claims
save = claims.Claim.save
def save_later(claim):
    claims.Claim.save = save
    print("looked", flush=True)
    sys.stdin.readline()
    save(claim)
claims.Claim.save = save_later
before = os""",
)


@pytest.fixture
def host(tmp_path: os.PathLike[str]) -> Iterator[Host]:
    made = Host(os.fspath(tmp_path))
    before = made.state()
    try:
        yield made
        assert made.state() == before
    finally:
        made.close()


def answer(pod: subprocess.Popen[str]) -> dict[str, Any]:
    assert pod.stdout is not None
    value: dict[str, Any] = json.loads(pod.stdout.readline())
    return value


def begin(host: Host, uuid: str, **options: Any) -> subprocess.Popen[str]:
    """A pod that is being started; nobody has waited for it yet."""
    return subprocess.Popen(
        host.setup_argv("default", "cat", uuid=uuid, **{"ports": PORT, **options}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def looked(host: Host, uuid: str = UUID) -> subprocess.Popen[str]:
    """A pod that has looked for claims of its port and has not written its own."""
    pod = begin(host, uuid, code=PAUSED)
    assert pod.stdout is not None
    assert pod.stdout.readline() == "looked\n"
    return pod


def wait_until_blocked(pod: subprocess.Popen[str]) -> None:
    """Until the pod waits for a lock of the kernel's table of locks."""

    def is_blocked() -> bool:
        with open("/proc/locks") as file:
            return any(" -> POSIX" in line and line.split()[5] == str(pod.pid) for line in file)

    until(is_blocked)


def end(*pods: subprocess.Popen[str]) -> None:
    for pod in pods:
        pod.kill()
        pod.communicate()


@pytest.mark.promise("P2")
def test_between_looking_and_claiming_nobody_else_can_look(host: Host) -> None:
    first = looked(host)
    second = begin(host, OTHER)
    wait_until_blocked(second)
    other_port, _ = host.setup("default", ports=[("tcp", "", 8081, 80)], uuid="bbbbbbbb" + OTHER[8:])
    assert "error" not in other_port  # nobody waits who wants another port
    assert first.stdin is not None
    first.stdin.write("\n")
    first.stdin.flush()
    assert "error" not in answer(first)
    refused = answer(second)
    assert refused["error"] == REFUSED
    assert refused["said"] == ["waiting for another pod that is being given a port of this one"]
    end(first, second)
    assert host.teardown() == []
    assert host.teardown("bbbbbbbb" + OTHER[8:]) == []


def test_killed_between_looking_and_claiming(host: Host) -> None:
    first = looked(host)
    second = begin(host, OTHER)
    wait_until_blocked(second)
    end(first)
    assert "error" not in answer(second)
    end(second)
    assert host.teardown() == []
    assert host.teardown(OTHER) == []


@pytest.mark.promise("P2")
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.attack(34)
def test_of_many_at_once_exactly_one_gets_it(host: Host, protocol: str) -> None:
    uuids = [f"{number:08x}{UUID[8:]}" for number in range(8)]
    pods = [begin(host, uuid, ports=[(protocol, "", 8080, 80)]) for uuid in uuids]
    answers = [answer(pod) for pod in pods]
    (winner,) = [uuid for uuid, said in zip(uuids, answers, strict=True) if "error" not in said]
    for said in answers:
        expected = f"port {protocol}-0.0.0.0:8080 already mapped to pod port 80 of pod {winner}"
        assert said.get("error", expected) == expected
    end(*pods)
    for uuid in uuids:
        assert host.teardown(uuid) == []


def test_of_overlapping_ranges_exactly_one_gets_them(host: Host) -> None:
    """In whatever order a pod names them, they do not wait for each other in a circle."""
    ranges = [
        [("tcp", "", 8080, 80, 10), ("tcp", "", 9000, 90)],
        [("tcp", "", 9000, 90), ("tcp", "", 8085, 80)],
        [("tcp", "", 8089, 80, 2), ("tcp", "", 8999, 90, 2)],
    ]
    for _ in range(3):
        uuids = [f"{number:08x}{UUID[8:]}" for number in range(3)]
        pods = [begin(host, uuid, ports=ports) for uuid, ports in zip(uuids, ranges, strict=True)]
        answers = [answer(pod) for pod in pods]
        winners = [said for said in answers if "error" not in said]
        end(*pods)
        for uuid in uuids:
            assert host.teardown(uuid) == []
        assert len(winners) == 1, answers


@pytest.mark.promise("P2")
def test_pods_of_another_data_directory_are_met(host: Host, tmp_path: os.PathLike[str]) -> None:
    elsewhere = os.path.join(tmp_path, "elsewhere", "pods", "run", UUID)
    os.makedirs(elsewhere)
    first, pod = host.start("default", "cat", ports=PORT, pod=elsewhere)
    assert "error" not in first
    second, _ = host.setup("default", ports=PORT, uuid=OTHER)
    assert second["error"] == REFUSED
    assert second["same"]
    end(pod)
    third, pod = host.start("default", "cat", ports=PORT, uuid=OTHER)  # it has ended: the port is free
    assert "error" not in third
    end(pod)
    assert host.teardown(pod=elsewhere) == []
    assert host.teardown(OTHER) == []


def test_another_network_namespace_has_other_ports(host: Host) -> None:
    """rkt below ``ip netns exec``: the directory of claims is the same, the ports are not."""
    first, pod = host.start("default", "cat", ports=PORT)
    assert "error" not in first
    host.ok("ip", "netns", "add", "second")
    enter = f"exec nsenter --target={host.keeper.pid} --mount nsenter --net=/run/netns/second "
    words = host.setup_argv("none,default", ports=PORT, uuid=OTHER)
    done = subprocess.run(
        ["sh", "-c", enter + '"$@"', "sh", *words[words.index("/usr/bin/python3") :]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout)["error"] == "no networks found"  # not: already mapped
    words = host.setup_argv("default", ports=PORT, uuid=OTHER)
    done = subprocess.run(
        ["sh", "-c", enter + '"$@"', "sh", *words[words.index("/usr/bin/python3") :]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "error" not in json.loads(done.stdout), done
    assert host.teardown(OTHER) == []
    host.ok("ip", "netns", "delete", "second")
    end(pod)
    assert host.teardown() == []


def test_each_address_of_the_host_has_its_ports(host: Host) -> None:
    host.ok("ip", "address", "add", "203.0.113.3/24", "dev", "up0")
    pods = []
    for number, address in enumerate(("203.0.113.2", "203.0.113.3")):
        uuid = f"{number:08x}{UUID[8:]}"
        done, pod = host.start("default", "cat", ports=[("tcp", address, 8080, 80)], uuid=uuid)
        assert "error" not in done
        pods.append((uuid, pod))
    done, _ = host.setup("default", ports=PORT, uuid=OTHER)
    assert done["error"].startswith("port tcp-0.0.0.0:8080 already mapped to pod port 80 of pod ")
    for uuid, pod in pods:
        end(pod)
        assert host.teardown(uuid) == []
    host.ok("ip", "address", "delete", "203.0.113.3/24", "dev", "up0")


def test_a_damaged_claim_is_nobodys(host: Host) -> None:
    done, pod = host.start("default", "cat", ports=PORT)
    assert "error" not in done
    end(pod)
    host.ok("sh", "-c", "echo '{' >/run/rkt/ports/" + UUID)
    done, pod = host.start("default", "cat", ports=PORT, uuid=OTHER)
    assert "error" not in done
    end(pod)
    assert host.teardown(OTHER) == []
    assert host.teardown() == []
