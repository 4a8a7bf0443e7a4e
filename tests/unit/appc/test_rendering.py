"""Which files of which image make up a root file system."""

from __future__ import annotations

import itertools

import pytest

from rkt.appc import rendering
from rkt.appc.errors import AppcError
from rkt.appc.image import Dependency, ImageManifest
from rkt.appc.rendering import Layer


def flatten(tree: dict[str, str], root: str = "a") -> list[tuple[str, int]]:
    layers = rendering.flatten(
        root,
        lambda key: ImageManifest(key, dependencies=[Dependency(name) for name in tree.get(key, "")]),
        lambda dependency: dependency.image_name,
    )
    return [(layer.key, layer.level) for layer in layers]


def test_order() -> None:
    assert flatten({"a": "bc", "c": "d"}) == [("a", 0), ("c", 1), ("d", 2), ("b", 1)]
    assert [key for key, _ in flatten({"a": "bc", "b": "d", "c": "d"})] == ["a", "c", "d", "b", "d"]
    assert flatten({}) == [("a", 0)]


@pytest.mark.parametrize("tree", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "bc", "c": "d", "d": "c"}])
def test_loops_are_errors(tree: dict[str, str]) -> None:
    with pytest.raises(AppcError, match=r"dependency loop: (a -> a|a -> b -> a|c -> d -> c)$"):
        flatten(tree)


@pytest.mark.promise("P4")
def test_a_few_images_cannot_name_exponentially_many() -> None:
    names = "abcdefghijklmnopqrstuvwxyz"
    tree = {name: after * 2 for name, after in itertools.pairwise(names)}
    with pytest.raises(AppcError, match="more than 1000"):
        flatten(tree)


def select(*images: tuple[str, int, str, str]) -> list[list[str]]:
    """Each image as name, level, whitelist and entries; a trailing slash marks a directory."""
    entries = {name: words.split() for name, _, _, words in images}
    layers = [Layer(name, level, whitelist.split()) for name, level, whitelist, _ in images]
    chosen = rendering.select(
        layers, lambda key: (("rootfs/" + word.strip("/"), word.endswith("/")) for word in entries[key])
    )
    return [sorted(name.removeprefix("rootfs/") for name in names if name != "manifest") for names in chosen]


def test_the_higher_image_wins() -> None:
    assert select(("a", 0, "", "x d/ d/y"), ("b", 1, "", "x d/ d/z")) == [["d", "d/y", "x"], ["d/z"]]


def test_a_file_hides_a_tree() -> None:
    assert select(("a", 0, "", "d"), ("b", 1, "", "d/ d/x d/e/ d/e/y z")) == [["d"], ["z"]]


def test_an_implied_directory_hides_a_file_but_takes_a_directory() -> None:
    assert select(("a", 0, "", "d/x"), ("b", 1, "", "d")) == [["d/x"], []]
    assert select(("a", 0, "", "d/x"), ("b", 1, "", "d/ d/y")) == [["d/x"], ["d", "d/y"]]


def test_the_own_whitelist_spares_directories() -> None:
    assert select(("a", 0, "/x /d/../y", "x y z d/ d/w")) == [["d", "x", "y"]]


def test_a_whitelist_holds_for_what_lies_below() -> None:
    assert select(("a", 0, "/x", ""), ("b", 1, "/x /y", "x y d/")) == [[], ["x"]]


def test_the_whitelist_of_a_sibling_does_not_leak() -> None:
    # the reference filters b by c's whitelist, because d, deeper than b, stands between them in the list
    images = [("a", 0, "", "q"), ("c", 1, "/x", "x y"), ("d", 2, "", "x z"), ("b", 1, "", "w x")]
    assert select(*images) == [["q"], ["x"], [], ["w"]]


def test_only_what_is_below_rootfs_counts() -> None:
    selector = rendering.Selector([Layer("a", 0)])
    selector.start(0)
    assert selector.wants("rootfs", directory=True)
    assert not selector.wants("rootfs", directory=False)
    assert not selector.wants("manifest", directory=False)
    assert not selector.wants("rootfs2/x", directory=False)
