"""Limits as numbers: what can be asked for, and what no machine could keep."""

from __future__ import annotations

import pytest

from rkt.appc import isolators
from rkt.appc.errors import AppcError
from rkt.appc.isolators import Isolator
from rkt.appc.limits import Limits


def resource(name: str, **value: object) -> Isolator:
    shared = name in (isolators.BLOCK_BANDWIDTH, isolators.BLOCK_IOPS, isolators.NETWORK_BANDWIDTH)
    return Isolator(name, {"default": shared, **value})


def test_numbers_and_units() -> None:
    limits = Limits.of(
        [
            resource(isolators.MEMORY, limit="16Mi"),
            resource(isolators.CPU, limit="1.5"),
            resource(isolators.BLOCK_BANDWIDTH, limit="1M"),
            resource(isolators.BLOCK_IOPS, limit="100"),
            resource(isolators.NETWORK_BANDWIDTH, limit="1k"),
            Isolator(isolators.CPU_SHARES, 77),
            Isolator(isolators.OOM_SCORE_ADJ, -5),
        ]
    )
    assert (limits.memory, limits.cpu, limits.cpu_shares, limits.oom_score_adj) == (16 << 20, 1500, 77, -5)
    assert (limits.block_bandwidth, limits.block_iops, limits.network_bandwidth) == (1_000_000, 100, 1000)
    assert limits.unlimited == limits.reserving == set()


def test_nothing_is_asked_for() -> None:
    limits = Limits.of([Isolator("example.com/other", 1), Isolator(isolators.NO_NEW_PRIVILEGES, True)])
    assert all(getattr(limits, name) in (None, set()) for name in Limits.__slots__)


def test_the_last_of_a_name_counts() -> None:
    found = [resource(isolators.MEMORY, request="1Gi"), resource(isolators.MEMORY, limit="1Mi")]
    limits = Limits.of(found)
    assert (limits.memory, limits.unlimited, limits.reserving) == (1 << 20, set(), set())
    limits = Limits.of(found[::-1])
    assert (limits.memory, limits.unlimited) == (None, {isolators.MEMORY})


def test_requests_are_not_limits() -> None:
    assert Limits.of([resource(isolators.CPU, request="1", limit="1")]).reserving == set()
    assert Limits.of([resource(isolators.CPU, request="500m", limit="1")]).reserving == {isolators.CPU}


@pytest.mark.parametrize(
    "limit", ["0", "-1", "-16Mi", "4095", "1m", "99999999999999999999E", "9223372036854775808"]
)
def test_impossible_memory(limit: str) -> None:
    with pytest.raises(AppcError, match=r"isolator resource/memory: a limit of .* is too (low|high)"):
        Limits.of([resource(isolators.MEMORY, limit=limit)])


@pytest.mark.parametrize(
    "name", [isolators.CPU, isolators.BLOCK_BANDWIDTH, isolators.BLOCK_IOPS, isolators.NETWORK_BANDWIDTH]
)
@pytest.mark.parametrize("limit", ["0", "-1", "99999999999999999999E"])
def test_impossible_rates(name: str, limit: str) -> None:
    with pytest.raises(AppcError, match=name):
        Limits.of([resource(name, limit=limit)])


def test_the_least_and_the_most() -> None:
    assert Limits.of([resource(isolators.MEMORY, limit="4096")]).memory == 4096
    assert Limits.of([resource(isolators.CPU, limit="1n")]).cpu == 1
    assert Limits.of([resource(isolators.MEMORY, limit="9223372036854775807")]).memory == (1 << 63) - 1


def test_both_limits_hold() -> None:
    app = Limits.of([resource(isolators.MEMORY, limit="16Mi"), Isolator(isolators.CPU_SHARES, 5)])
    pod = Limits.of([resource(isolators.MEMORY, limit="8Mi"), resource(isolators.CPU, limit="1")])
    both = app.within(pod)
    assert (both.memory, both.cpu, both.cpu_shares, both.block_iops) == (8 << 20, 1000, 5, None)
