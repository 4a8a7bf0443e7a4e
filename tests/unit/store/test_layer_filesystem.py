"""What layers make up, one over the other, and that no name leads out of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkt.errors import RktError, one_line
from rkt.store import filesystem
from rkt.store.entry import CHARACTER, DIRECTORY, FILE, LINK, SYMLINK, Entry
from rkt.store.filesystem import Filesystem


def entry(text: str) -> Entry:
    """``name`` a file, ``name/`` a directory, ``name -> target`` a link, ``name = target`` a hard link."""
    for separator, type in ((" -> ", SYMLINK), (" = ", LINK)):
        if separator in text:
            name, _, target = text.partition(separator)
            return Entry(name, type, linkname=target)
    return Entry(text, DIRECTORY) if text.endswith("/") else Entry(text, FILE)


def paths(*layers: list[str]) -> dict[str, tuple[int, int]]:
    """Files by path, with (layer, index) of what they are; directories have None."""
    made = Filesystem()
    for layer in layers:
        made.apply(filesystem.headers(map(entry, layer)))
    plan = made.plan()
    found = {}
    for number, files in enumerate(plan.files):
        for index, names in files.items():
            found.update(dict.fromkeys(names, (number, index)))
    assert len(plan.directories) == len({path for path, _ in plan.directories})
    return found


def refused(*layers: list[str]) -> str:
    with pytest.raises(RktError) as caught:
        paths(*layers)
    return one_line(caught.value)


@pytest.mark.attack(4)
def test_whiteouts() -> None:
    assert paths(["a", "b"], [".wh.a"]) == {"b": (0, 1)}
    assert paths(["d/a", "d/b"], ["d/.wh.a"]) == {"d/b": (0, 1)}
    assert paths(["d/a", "d/b"], [".wh.d"]) == {}
    assert paths(["d/a"], [".wh.d", "d/", "d/b"]) == {"d/b": (1, 2)}
    assert paths(["d/a"], ["d/", "d/b", ".wh.d"]) == {"d/b": (1, 1)}
    assert paths(["a"], ["a", ".wh.a"]) == {"a": (1, 0)}
    assert paths(["a"], [".wh.nothing", "no/.wh.thing"]) == {"a": (0, 0)}


@pytest.mark.attack(4)
def test_no_link_leads_to_a_sign() -> None:
    assert "is not a directory" in refused(["a -> .wh.b", "a/c"])
    assert "is not a directory" in refused(["a -> d/.wh..wh..opq/e"], ["a/c"])


@pytest.mark.attack(4)
def test_opaque_directories() -> None:
    assert paths(["d/a", "d/s/b"], ["d/.wh..wh..opq"]) == {}
    assert paths(["d/a", "d/s/b"], ["d/s/c", "d/.wh..wh..opq"]) == {"d/s/c": (1, 0)}
    assert paths(["d/a"], ["d/.wh..wh..opq", "d/c"]) == {"d/c": (1, 1)}
    assert paths(["a"], [".wh..wh..opq", "b"]) == {"b": (1, 1)}


def test_signs_of_aufs_mean_nothing() -> None:
    assert paths([".wh..wh.plnk/1.2", ".wh..wh.aufs", "a"]) == {"a": (0, 2)}


@pytest.mark.attack(3)
def test_hard_links() -> None:
    assert paths(["a", "b = a"]) == {"a": (0, 0), "b": (0, 0)}
    assert paths(["a"], ["b = a", ".wh.a"]) == {"b": (0, 0)}
    assert paths(["a", "b = a"], ["a"]) == {"a": (1, 0), "b": (0, 0)}
    assert paths(["l -> x", "m = l"]) == {"l": (0, 0), "m": (0, 0)}
    assert paths(["bin/a", "sbin -> bin", "b = /sbin/a"]) == {"bin/a": (0, 0), "sbin": (0, 1), "b": (0, 0)}


@pytest.mark.attack(2)
def test_names_through_links() -> None:
    assert paths(["usr/", "lib -> usr"], ["lib/x"]) == {"lib": (0, 1), "usr/x": (1, 0)}
    assert paths(["lib -> /usr"], ["lib/x"]) == {"lib": (0, 0), "usr/x": (1, 0)}
    assert paths(["out -> ../../../etc"], ["out/x"]) == {"out": (0, 0), "etc/x": (1, 0)}
    assert paths(["a/b/", "a/b/up -> ../../.."], ["a/b/up/x"]) == {"a/b/up": (0, 1), "x": (1, 0)}
    assert paths(["d -> e", "e/x"], ["d/.wh.x"]) == {"d": (0, 0)}
    assert paths(["d -> /e", "e/x"], [".wh.d"]) == {"e/x": (0, 1)}


def test_kinds_that_replace_each_other() -> None:
    assert paths(["d/x"], ["d"]) == {"d": (1, 0)}
    assert paths(["d"], ["d/", "d/x"]) == {"d/x": (1, 1)}
    assert paths(["d -> e", "e/x"], ["d/", "d/y"]) == {"e/x": (0, 1), "d/y": (1, 1)}
    assert paths(["d/x"], ["d/"]) == {"d/x": (0, 0)}
    assert paths(["./a", "b//c"], ["/a"]) == {"a": (1, 0), "b/c": (0, 1)}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (["../x"], "leads out"),
        (["a/../../x"], "leads out"),
        (["a = ../../etc/passwd"], "leads out"),
        (["a = etc/passwd"], "does not exist"),
        (["d/", "a = d"], "is a directory"),
        (["a", "a/b"], "is not a directory"),
        (["a -> b", "b -> a", "a/x"], "too many links"),
        ([".wh."], "names none"),
        ([".wh..."], "names none"),
        (["d/.wh..."], "names none"),
        ([".wh.d/x"], "is not a directory"),
        (["d/" * 2100 + "x"], "longer than"),
        (["n" * 256], "longer than"),
        (["ä" * 128 + "/x"], "longer than"),
        (["a -> " + "n" * 256, "a/x"], "longer than"),
        (["a\0b"], "NUL"),
    ],
)
@pytest.mark.attack(4)
def test_refused(layer: list[str], message: str) -> None:
    assert message in refused(layer)


@pytest.mark.attack(5)
def test_sign_of_overlayfs_is_refused() -> None:
    with pytest.raises(RktError, match="sign of overlayfs"):
        list(filesystem.headers([Entry("a", CHARACTER)]))


_NAMES = st.sampled_from(["a", "b", "c", "a/b", "b/c", "a/b/c", ".wh.a", "a/.wh.b", "a/.wh..wh..opq", "/c/"])
_ENTRIES = st.one_of(
    _NAMES,
    _NAMES.map(lambda name: name + "/"),
    st.tuples(_NAMES, _NAMES).map(" -> ".join),
    st.tuples(_NAMES, _NAMES).map(" = ".join),
)


@given(st.lists(st.lists(_ENTRIES, max_size=8), max_size=4))
def test_any_layers_end_in_a_tree_or_an_error(layers: list[list[str]]) -> None:
    made = Filesystem()
    try:
        for layer in layers:
            made.apply(filesystem.headers(map(entry, layer)))
    except RktError:
        return
    plan = made.plan()
    directories = {path for path, _ in plan.directories}
    for layer_files in plan.files:
        for names in layer_files.values():
            for name in names:
                assert ".wh." not in name and ".." not in name.split("/")
                assert name.rpartition("/")[0] in directories and name not in directories
