"""What becomes of isolators, as data: reports, control files, kernel parameters."""

from __future__ import annotations

import os

import pytest

from rkt.appc import isolators
from rkt.appc.isolators import Isolator
from rkt.appc.limits import Limits
from rkt.errors import RktError
from rkt.stage1.common import outcome, resources, sysctl
from rkt.stage1.common.outcome import POD, Outcomes

DISKS = [(8, 0), (259, 3)]


def limits(**given: str) -> Limits:
    names = {
        "memory": isolators.MEMORY,
        "cpu": isolators.CPU,
        "bandwidth": isolators.BLOCK_BANDWIDTH,
        "iops": isolators.BLOCK_IOPS,
    }
    found = [
        Isolator(names[key], {"default": key in ("bandwidth", "iops"), "limit": value})
        for key, value in given.items()
        if key != "shares"
    ]
    if "shares" in given:
        found.append(Isolator(isolators.CPU_SHARES, int(given["shares"])))
    return Limits.of(found)


# -- reports ---------------------------------------------------------------------------------------------


def test_each_isolator_is_accounted_for_in_the_order_of_the_manifests() -> None:
    outcomes = Outcomes(strict=False)
    outcomes.expect(POD, [Isolator("example.com/odd", 1)])
    outcomes.expect(
        outcome.of_app("a"), [Isolator(isolators.CPU_SHARES, 5), Isolator(isolators.OOM_SCORE_ADJ, 5)]
    )
    outcomes.enforced('app "a"', isolators.OOM_SCORE_ADJ)
    outcomes.changed('app "a"', isolators.CPU_SHARES, "for a reason")
    outcomes.ignored(POD, "example.com/odd", "rkt does not know it")
    assert outcomes.lines() == [
        "pod: isolator example.com/odd is ignored: rkt does not know it",
        'app "a": isolator os/linux/cpu-shares is changed: for a reason',
        'app "a": isolator os/linux/oom-score-adj is enforced',
    ]
    assert outcomes.warnings() == outcomes.lines()[:2]
    outcomes.check()


def test_strict_refuses_what_is_not_enforced() -> None:
    outcomes = Outcomes(strict=True)
    outcomes.enforced(POD, isolators.MEMORY)
    outcomes.check()
    outcomes.changed(POD, isolators.CPU, "one")
    with pytest.raises(RktError, match=r"^pod: isolator resource/cpu is changed: one, which --strict-"):
        outcomes.check()
    outcomes.ignored(POD, isolators.SYSCTL, "two")
    with pytest.raises(RktError, match=r"one \(and 1 more\), which --strict-isolators does not allow$"):
        outcomes.check()


def test_the_last_word_counts() -> None:
    outcomes = Outcomes(strict=False)
    outcomes.ignored(POD, isolators.CPU, "at first")
    outcomes.enforced(POD, isolators.CPU)
    assert outcomes.is_enforced(POD, isolators.CPU)
    assert outcomes.warnings() == []


# -- control files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "controller", "legacy", "unified"),
    [
        ({"memory": "1Mi"}, "memory", [("memory.limit_in_bytes", "1048576")], [("memory.max", "1048576")]),
        (
            {"cpu": "1500m", "shares": "512"},
            "cpu",
            [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000"), ("cpu.shares", "512")],
            [("cpu.max", "150000 100000"), ("cpu.weight", "50")],
        ),
        # no quota is below a millisecond
        (
            {"cpu": "5m"},
            "cpu",
            [("cpu.cfs_period_us", "1000000"), ("cpu.cfs_quota_us", "5000")],
            [("cpu.max", "5000 1000000")],
        ),
        (
            {"bandwidth": "1k", "iops": "7"},
            "io",
            [
                ("blkio.throttle.read_bps_device", "8:0 1000"),
                ("blkio.throttle.write_bps_device", "8:0 1000"),
                ("blkio.throttle.read_iops_device", "8:0 7"),
                ("blkio.throttle.write_iops_device", "8:0 7"),
                ("blkio.throttle.read_bps_device", "259:3 1000"),
                ("blkio.throttle.write_bps_device", "259:3 1000"),
                ("blkio.throttle.read_iops_device", "259:3 7"),
                ("blkio.throttle.write_iops_device", "259:3 7"),
            ],
            [
                ("io.max", "8:0 rbps=1000 wbps=1000 riops=7 wiops=7"),
                ("io.max", "259:3 rbps=1000 wbps=1000 riops=7 wiops=7"),
            ],
        ),
        ({}, "memory", [], []),
        ({"memory": "1Mi"}, "io", [], []),
    ],
)
def test_settings(
    asked: dict[str, str],
    controller: str,
    legacy: list[tuple[str, str]],
    unified: list[tuple[str, str]],
) -> None:
    assert resources.settings(limits(**asked), controller, DISKS, unified=False) == legacy
    assert resources.settings(limits(**asked), controller, DISKS, unified=True) == unified


def test_which_controllers_are_needed() -> None:
    assert resources.wanted(limits()) == {}
    assert resources.wanted(limits(memory="1Mi", iops="1")) == {
        isolators.MEMORY: "memory",
        isolators.BLOCK_IOPS: "io",
    }


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (777, 75), (262144, 10000)])
def test_shares_as_weights(shares: int, weight: int) -> None:
    assert resources.weight(shares) == weight


# -- kernel parameters -----------------------------------------------------------------------------------

BOTH = {"net", "ipc"}


@pytest.mark.parametrize(
    ("key", "path", "kind"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "net"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding", "net"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding", "net"),
        ("kernel.shmmax", "kernel/shmmax", "ipc"),
        ("kernel.sem", "kernel/sem", "ipc"),
        ("kernel.msgmnb", "kernel/msgmnb", "ipc"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max", "ipc"),
    ],
)
def test_parameters_of_a_pod(key: str, path: str, kind: str) -> None:
    (parameter,) = sysctl.plan({key: "1"}, BOTH)
    assert (parameter.key, parameter.path, parameter.value, parameter.kind) == (key, path, "1", kind)


@pytest.mark.parametrize(
    ("key", "own", "words"),
    [
        ("kernel.hostname", BOTH, "--hostname"),
        ("kernel/domainname", BOTH, "--hostname"),
        ("kernel.core_pattern", BOTH, "belongs to the host"),
        ("vm.swappiness", BOTH, "belongs to the host"),
        ("fs.file-max", BOTH, "belongs to the host"),
        ("fs.mqueue", BOTH, "belongs to the host"),
        ("net.ipv4.ip_forward", {"ipc"}, "network of the host"),
        ("kernel.shmmax", {"net"}, "IPC namespace of the host"),
        ("net.ipv4./../../kernel.core_pattern", BOTH, "no name of a sysctl"),
        ("net/../kernel/core_pattern", BOTH, "no name of a sysctl"),
        ("net..x", BOTH, "no name of a sysctl"),
        ("net", BOTH, "no name of a sysctl"),
        ("", BOTH, "no name of a sysctl"),
        ("net.x\0y", BOTH, "no name of a sysctl"),
    ],
)
def test_parameters_of_the_host(key: str, own: set[str], words: str) -> None:
    with pytest.raises(RktError, match=words):
        sysctl.plan({key: "1"}, own)


def test_a_parameter_the_kernel_does_not_have() -> None:
    """Nothing of this process's namespaces is changed: there is no such file."""
    parameters = sysctl.plan({"net.rkt_test.nosuch": "1"}, BOTH)
    with pytest.raises(RktError, match='unable to set sysctl "net.rkt_test.nosuch" to "1"'):
        sysctl.apply(parameters, "net")
    sysctl.apply(parameters, "ipc")
    assert not os.path.exists("/proc/sys/net/rkt_test")
