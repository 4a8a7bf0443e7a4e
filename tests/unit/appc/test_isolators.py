"""Isolators: values, the rules for lists, and the flags that make them."""

from __future__ import annotations

import pytest

from rkt.appc import isolators
from rkt.appc.decode import document
from rkt.appc.errors import AppcError
from rkt.appc.gojson import dumps
from rkt.appc.isolators import Isolator


def test_a_known_isolator_needs_a_value() -> None:
    for text in ('{"name":"resource/cpu"}', '{"name":"resource/cpu","value":null}'):
        with pytest.raises(AppcError, match="has no value"):
            Isolator.from_value(document(text))


def test_values_print_as_they_came() -> None:
    text = '{"name":"x/y","value":{"b":1.50,"a":[{}],"b":null}}'
    assert dumps(Isolator.from_value(document(text)).to_value()) == text


def test_false_and_empty_are_values() -> None:
    made = [Isolator(isolators.NO_NEW_PRIVILEGES, False), Isolator(isolators.SYSCTL, {})]
    isolators.check(made)
    assert isolators.unrecognized(made) == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([isolators.SECCOMP_RETAIN, isolators.SECCOMP_REMOVE], "incompatible"),
        ([isolators.SECCOMP_REMOVE, isolators.SECCOMP_RETAIN], "incompatible"),
        ([isolators.SECCOMP_RETAIN, isolators.SECCOMP_RETAIN], "too many"),
    ],
)
def test_seccomp_once_and_one_way(names: list[str], words: str) -> None:
    with pytest.raises(AppcError, match=words):
        isolators.check([Isolator(name, {"set": ["read"]}) for name in names])


def test_capabilities_may_repeat_as_in_the_reference() -> None:
    names = [isolators.CAPABILITIES_RETAIN, isolators.CAPABILITIES_REMOVE, isolators.CAPABILITIES_RETAIN]
    isolators.check([Isolator(name, {"set": ["CAP_KILL"]}) for name in names])


@pytest.mark.parametrize(
    "value", [{"set": ["read"], "errno": errno} for errno in ("PERM", "EPerm", "E-1", "EÄ", " E")]
)
def test_bad_errno(value: dict[str, object]) -> None:
    with pytest.raises(AppcError):
        Isolator(isolators.SECCOMP_RETAIN, value)


def test_flags() -> None:
    made = [
        isolators.capabilities_from_flag("CAP_CHOWN,CAP_KILL", retain=True),
        isolators.capabilities_from_flag("CAP_CHOWN", retain=False),
        isolators.seccomp_from_flag("mode=retain,errno=EPERM,read,write"),
        isolators.seccomp_from_flag("mode=remove,@rkt/x"),
        isolators.memory_from_flag("1024Mi"),
        isolators.cpu_from_flag("0.5"),
        isolators.cpu_shares_from_flag("2"),
        isolators.oom_score_adj_from_flag("-1000"),
    ]
    assert [(isolator.name, dumps(isolator.raw)) for isolator in made] == [
        ("os/linux/capabilities-retain-set", '{"set":["CAP_CHOWN","CAP_KILL"]}'),
        ("os/linux/capabilities-remove-set", '{"set":["CAP_CHOWN"]}'),
        ("os/linux/seccomp-retain-set", '{"set":["read","write"],"errno":"EPERM"}'),
        ("os/linux/seccomp-remove-set", '{"set":["@rkt/x"],"errno":""}'),
        ("resource/memory", '{"default":false,"request":"1Gi","limit":"1Gi"}'),
        ("resource/cpu", '{"default":false,"request":"500m","limit":"500m"}'),
        ("os/linux/cpu-shares", "2"),
        ("os/linux/oom-score-adj", "-1000"),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "read", "mode=keep,read", "mode=retain", "mode=retain,mode=remove,read", "mode=retain,x=y,read"],
)
def test_bad_seccomp_flags(text: str) -> None:
    with pytest.raises(AppcError):
        isolators.seccomp_from_flag(text)


@pytest.mark.parametrize("text", ["1", "262145", "-5", "x", ""])
def test_bad_cpu_shares(text: str) -> None:
    with pytest.raises(AppcError):
        isolators.cpu_shares_from_flag(text)


@pytest.mark.promise("P5")
def test_the_default_capabilities_are_the_fourteen() -> None:
    assert len(set(isolators.DEFAULT_CAPABILITIES)) == 14
    assert "CAP_SYS_ADMIN" not in isolators.DEFAULT_CAPABILITIES
