"""The difference a layer makes, as docker2aci writes it."""

from __future__ import annotations

from rkt.build.docker2aci import _difference, _view
from rkt.store.entry import DIRECTORY, FILE, LINK, Entry
from rkt.store.filesystem import Filesystem, Header


def headers(*entries: Entry) -> list[Header]:
    return [Header(index, entry) for index, entry in enumerate(entries)]


def test_only_what_changed() -> None:
    filesystem = Filesystem()
    filesystem.apply(
        headers(Entry("d", DIRECTORY), Entry("d/a", FILE), Entry("d/b", FILE), Entry("e/c", FILE))
    )
    first = filesystem.plan()
    before = _view(first)
    assert sorted(before) == ["", "d", "d/a", "d/b", "e", "e/c"]
    whole = _difference(first, {})
    assert ([path for path, _ in whole.directories], whole.files) == (
        ["", "d", "e"],
        [{1: ["d/a"], 2: ["d/b"], 3: ["e/c"]}],
    )
    filesystem.apply(
        headers(
            Entry("d/.wh.a", FILE),
            Entry("e", DIRECTORY, mode=0o700),
            Entry("link", LINK, linkname="d/b"),
            Entry("d/new", FILE),
        )
    )
    plan = filesystem.plan()
    change = _difference(plan, before)
    assert [path for path, _ in change.directories] == ["", "e"]
    assert change.files == [{2: ["link"]}, {3: ["d/new"]}]
    assert sorted(_view(plan)) == ["", "d", "d/b", "d/new", "e", "e/c", "link"]


def test_a_layer_that_changes_nothing() -> None:
    filesystem = Filesystem()
    filesystem.apply(headers(Entry("a", FILE)))
    before = _view(filesystem.plan())
    filesystem.apply([])
    change = _difference(filesystem.plan(), before)
    assert [path for path, _ in change.directories] == [""]
    assert change.files == [{}, {}]
