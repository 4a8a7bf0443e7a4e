"""Labels, annotations and environment: lists of names and values."""

from __future__ import annotations

import pytest

from rkt.appc import annotations as annotation_list
from rkt.appc import environment, labels
from rkt.appc.annotations import Annotation
from rkt.appc.environment import EnvironmentVariable
from rkt.appc.errors import AppcError
from rkt.appc.labels import Label


def test_architectures_need_an_operating_system() -> None:
    labels.check([Label("arch", "pdp11")])
    with pytest.raises(AppcError, match=r'bad arch "" for linux \(must be one of: \[amd64 i386 '):
        labels.check([Label("os", "linux"), Label("arch", "")])
    with pytest.raises(AppcError, match=r'bad os "plan9" \(must be one of: \[darwin freebsd linux\]\)'):
        labels.check([Label("os", "plan9")])


def test_labels_without_name_read_but_do_not_print() -> None:
    made = labels.decode([{"value": "x"}])
    assert made == [Label("", "x")]
    with pytest.raises(AppcError, match=r"\[0\]: ACIdentifier cannot be empty"):
        labels.encode(made)
    with pytest.raises(AppcError, match="duplicate"):
        labels.decode([{"value": "x"}, None])


def test_every_pair_with_a_name_in_go_comes_back() -> None:
    for system, names in labels.ARCHITECTURES.items():
        for name in names:
            go = labels.to_go(system, name)
            if name in ("aarch64_be", "armv7b"):
                assert go == ("", "", "")
            else:
                assert labels.from_go(*go) == (system, name)
    assert labels.from_go("linux", "arm") == ("linux", "armv6l")
    assert labels.from_go("freebsd", "arm", "7") == ("freebsd", "arm")
    assert labels.from_go("plan9", "amd64") is None
    assert labels.to_go("linux", None) == ("", "", "")


def test_maps() -> None:
    made = labels.from_map({"b": "2", "a": "1"})
    assert made == [Label("a", "1"), Label("b", "2")]
    assert labels.to_map(made) == {"a": "1", "b": "2"}
    assert labels.get(made, "b") == "2"
    assert labels.get(made, "c") is None


@pytest.mark.parametrize("name", ["created", "homepage", "documentation"])
def test_known_annotations_are_checked_even_when_empty(name: str) -> None:
    with pytest.raises(AppcError):
        annotation_list.check([Annotation(name, "")])


def test_put_replaces_in_place() -> None:
    made = [Annotation("a", "1"), Annotation("b", "2")]
    annotation_list.put(made, "a", "3")
    annotation_list.put(made, "c", "4")
    assert made == [Annotation("a", "3"), Annotation("b", "2"), Annotation("c", "4")]


def test_a_value_with_nul_reads() -> None:
    made = environment.decode([{"name": "A", "value": "x\0y"}])
    assert made == [EnvironmentVariable("A", "x\0y")]


@pytest.mark.parametrize("name", ["", "1A", "-A", "A=B", "A B", "Ä", "A\n", "A\0"])
def test_bad_names_of_variables(name: str) -> None:
    with pytest.raises(AppcError):
        environment.check_name(name)
