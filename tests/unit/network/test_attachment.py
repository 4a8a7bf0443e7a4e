"""What each plugin of a network is asked."""

from __future__ import annotations

import json
from typing import Any

from rkt.network import attachment
from rkt.network.attachment import Network
from rkt.network.configuration import NetworkConfig
from rkt.network.record import Attachment

RATES = {"ingressRate": 1, "ingressBurst": 2, "egressRate": 1, "egressBurst": 2}


def network(value: Any, capabilities: dict[str, Any] | None = None, **options: Any) -> Network:
    text = value if isinstance(value, str) else json.dumps(value)
    entry = Attachment("n", "net/n.conf", "eth0", "", capabilities=capabilities, **options)
    return Network(NetworkConfig("n.conf", text), entry, [])


def inputs(made: Network, previous: Any = None) -> list[dict[str, Any]]:
    return [json.loads(made.text(step, previous)) for step in made.steps]


def test_a_single_configuration_is_handed_over_as_it_is() -> None:
    text = '{ "type":"t",  "name":"n", "unknown": [1,2] }'
    made = network(text, {"ips": ["10.0.0.1"]})
    assert made.text(made.steps[0]) == text


def test_a_list_is_completed_for_each_plugin() -> None:
    value = {"cniVersion": "0.4.0", "name": "n", "plugins": [{"type": "a"}, {"type": "b", "k": 1}]}
    assert inputs(network(value), {"ips": []})[1] == {
        "type": "b",
        "k": 1,
        "name": "n",
        "cniVersion": "0.4.0",
        "prevResult": {"ips": []},
    }
    assert inputs(network(value))[0] == {"type": "a", "name": "n", "cniVersion": "0.4.0"}


def test_capabilities_go_to_those_who_take_them() -> None:
    value = {
        "cniVersion": "1.0.0",
        "name": "n",
        "plugins": [
            {"type": "a", "capabilities": {"ips": True, "mac": False}},
            {"type": "portmap", "capabilities": {"portMappings": True, "bandwidth": True}},
            {"type": "c"},
        ],
    }
    given = {"ips": ["10.0.0.1/24"], "mac": "02::", "portMappings": [{"hostPort": 1}], "bandwidth": RATES}
    one, two, three = inputs(network(value, given))
    assert one == {
        "type": "a",
        "name": "n",
        "cniVersion": "1.0.0",
        "runtimeConfig": {"ips": ["10.0.0.1/24"]},
    }
    assert two["runtimeConfig"] == {"portMappings": [{"hostPort": 1}], "bandwidth": RATES}
    assert "runtimeConfig" not in three


def test_a_single_configuration_gets_capabilities_too() -> None:
    made = network({"name": "n", "type": "t", "capabilities": {"mac": True}}, {"mac": "02:00:00:00:00:01"})
    assert inputs(made) == [{"name": "n", "type": "t", "runtimeConfig": {"mac": "02:00:00:00:00:01"}}]


def test_a_limit_that_nobody_takes_is_the_bandwidth_plugins() -> None:
    made = network({"name": "n", "type": "t", "cniVersion": "0.1.0"}, {"bandwidth": RATES})
    assert [step.type for step in made.steps] == ["t", "bandwidth"]
    first, last = inputs(made)
    # Only since this version a result has the interfaces that the plugin needs.
    assert first["cniVersion"] == last["cniVersion"] == "0.4.0"
    assert {key: last[key] for key in RATES} == RATES


def test_masquerading_is_taken_from_the_standard_plugins_only() -> None:
    value = {"name": "n", "plugins": [{"type": "bridge", "ipMasq": True}, {"type": "own", "ipMasq": True}]}
    assert attachment.masquerades(NetworkConfig("n.conf", json.dumps(value)))
    one, two = inputs(network(value, masquerade=True))
    assert (one["ipMasq"], two["ipMasq"]) == (False, True)
    one, two = inputs(network(value))  # as recorded by a version that left it to the plugin
    assert (one["ipMasq"], two["ipMasq"]) == (True, True)
    assert not attachment.masquerades(NetworkConfig("n.conf", '{"name":"n","type":"own","ipMasq":true}'))


def test_arguments_as_capabilities() -> None:
    assert attachment.capabilities_from("") == {}
    assert attachment.capabilities_from("X=y;IP=10.0.0.1/24;IP=fd00::1;MAC=02:00:00:00:00:01") == {
        "ips": ["10.0.0.1/24", "fd00::1"],
        "mac": "02:00:00:00:00:01",
    }


def test_the_cached_result_is_for_versions_that_know_it() -> None:
    results = [{"ips": [1]}, {"ips": [2]}, None]
    for version, expected in (("0.3.1", None), ("0.4.0", {"ips": [2]}), ("1.0.0", {"ips": [2]})):
        made = network({"name": "n", "type": "t", "cniVersion": version}, results=list(results))
        assert made.previous == expected
