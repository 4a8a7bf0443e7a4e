"""Which networks exist, which hides which, in which order, and what plugins are given."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from rkt.errors import Interrupted, RktError, one_line
from rkt.network import configuration


def write(directory: str, name: str, value: Any) -> None:
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, name), "w") as file:
        file.write(value if isinstance(value, str) else json.dumps(value))


@pytest.fixture
def local(tmp_path: os.PathLike[str]) -> str:
    return os.path.join(tmp_path, "local")


@pytest.fixture
def stage1(tmp_path: os.PathLike[str]) -> str:
    return os.path.join(tmp_path, "stage1")


def load(local: str, stage1: str) -> configuration.Configuration:
    return configuration.load([local], stage1)


def test_built_in_networks(local: str, stage1: str) -> None:
    found = {config.name: config for config in load(local, stage1).networks}
    assert list(found) == ["default-restricted", "default"]
    default = found["default"]
    assert default.file_name == "99-default.conf"
    assert default.masquerades
    assert not found["default-restricted"].masquerades
    assert default.plugins[0]["ipam"]["subnet"] == "172.16.28.0/24"
    assert default.plugins[0]["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}]
    assert found["default-restricted"].plugins[0]["ipam"] == {
        "type": "host-local",
        "subnet": "172.31.0.0/16",
    }


def test_local_hides_stage1_hides_built_in_by_network_name(local: str, stage1: str) -> None:
    write(f"{stage1}/etc/rkt/net.d", "10-x.conf", {"name": "default", "type": "stage1"})
    assert {c.name: c.plugins[0]["type"] for c in load(local, stage1).networks}["default"] == "stage1"
    write(f"{local}/net.d", "50-other-name.conf", {"name": "default", "type": "local"})
    found = {c.name: c for c in load(local, stage1).networks}
    assert found["default"].plugins[0]["type"] == "local"
    assert found["default"].file_name == "50-other-name.conf"


def test_order_is_that_of_file_names_over_all_directories(local: str, stage1: str) -> None:
    write(f"{local}/net.d", "20-b.conf", {"name": "b", "type": "t"})
    write(f"{stage1}/etc/rkt/net.d", "10-c.conf", {"name": "c", "type": "t"})
    write(f"{local}/net.d", "30-a.conflist", {"name": "a", "plugins": [{"type": "t"}]})
    write(f"{local}/net.d", "05-ignored.json", {"name": "ignored", "type": "t"})
    names = [config.name for config in load(local, stage1).networks]
    assert names == ["c", "b", "a", "default-restricted", "default"]


def select(text: str, found: configuration.Configuration, said: list[str] | None = None) -> list[Any]:
    from rkt.network.selection import parse_networks

    notes: list[str] = [] if said is None else said
    return [(c.name, args) for c, args in configuration.select(parse_networks(text), found, notes.append)]


def test_select_keeps_the_order_of_files_and_the_arguments(local: str, stage1: str) -> None:
    write(f"{local}/net.d", "20-b.conf", {"name": "b", "type": "t"})
    write(f"{local}/net.d", "10-c.conf", {"name": "c", "type": "t"})
    found = load(local, stage1)
    assert select("b:IP=1.1.1.1,c", found) == [("c", ""), ("b", "IP=1.1.1.1")]
    assert [name for name, _ in select("all", found)] == ["c", "b", "default-restricted", "default"]


def test_unknown_networks_are_named(local: str, stage1: str) -> None:
    with pytest.raises(RktError, match=r"^networks not found: x, y$"):
        select("x,default,y", load(local, stage1))


def test_a_broken_file_stops_only_who_may_have_meant_it(local: str, stage1: str) -> None:
    write(f"{local}/net.d", "10-broken.conf", '{"name": "n", ')
    found = load(local, stage1)
    said: list[str] = []
    assert select("default", found, said) == [("default", "")]
    assert "10-broken.conf" in said[0]
    for text in ("n", "all"):
        with pytest.raises(RktError) as caught:
            select(text, found)
        assert "10-broken.conf" in one_line(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"type": "t"}',
        '{"name": "n"}',
        '{"name": 1, "type": "t"}',
        '{"name": "n", "type": "../../bin/sh"}',
        '{"name": "n", "type": ".."}',
        '{"name": "n", "plugins": []}',
        '{"name": "n", "plugins": [1]}',
        '{"name": "n", "plugins": [{"x": 1}]}',
        "x" * ((1 << 20) + 1),
    ],
)
def test_malformed_files_are_named(tmp_path: os.PathLike[str], content: str) -> None:
    path = os.path.join(tmp_path, "10-n.conf")
    write(os.fspath(tmp_path), "10-n.conf", content)
    with pytest.raises(RktError) as caught:
        configuration.read(path)
    assert path in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "10-n.conf")
    with open(path, "wb") as file:
        file.write(b'{"name": "\xff", "type": "t"}')
    with pytest.raises(RktError, match=r"/10-n\.conf: not text in UTF-8$"):
        configuration.read(path)


def test_places_hide_each_other_by_network_name(tmp_path: os.PathLike[str]) -> None:
    places = [os.path.join(tmp_path, place) for place in ("user", "local", "system")]
    for number, place in enumerate(places):
        for name in ["a", "b", "c"][: number + 1]:
            write(f"{place}/net.d", f"{number}{name}.conf", {"name": name, "type": os.path.basename(place)})
    found = configuration.load(places, os.fspath(tmp_path)).networks
    assert {c.name: c.plugins[0]["type"] for c in found if not c.name.startswith("default")} == {
        "a": "user",
        "b": "local",
        "c": "system",
    }


def test_two_configurations_of_one_name_in_one_directory(local: str, stage1: str) -> None:
    write(f"{local}/net.d", "10-n.conf", {"name": "n", "type": "t"})
    write(f"{local}/net.d", "20-n.conf", {"name": "n", "type": "t"})
    found = load(local, stage1)
    for text in ("n", "default,n", "all"):
        with pytest.raises(RktError) as caught:
            select(text, found)
        assert one_line(caught.value) == (
            f"error loading network configuration {local}/net.d/20-n.conf: "
            'network "n" is configured by 10-n.conf too'
        )
    said: list[str] = []
    assert select("default", found, said) == [("default", "")]
    assert "20-n.conf" in said[0]


def test_a_signal_is_no_fault_of_a_file(local: str, stage1: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as one, the pod would start although it was told to end."""
    write(f"{local}/net.d", "20-n.conf", {"name": "n", "type": "ptp"})

    def interrupted(*_: object) -> int:
        raise Interrupted("interrupted by SIGTERM")

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(Interrupted):
        load(local, stage1)
