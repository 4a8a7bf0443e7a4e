"""Downloads over connections that break, and processes that are killed meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkt.image import partial
from rkt.image.download import Download, Request
from rkt.image.fetch import UPDATE, Fetcher
from rkt.image.http import Access, Client, HttpError, TransferError
from rkt.image.progress import Progress
from rkt.store import collector
from rkt.store.store import Store
from support import aci
from support.crash import Crash
from support.web import Page, Site, tagged


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(os.fspath(tmp_path_factory.mktemp("web"))) as made:
        yield made


class Reader:
    """Downloads one URL of the site as often as it takes."""

    def __init__(self, site: Site, directory: str) -> None:
        self.url = f"{site.plain_url}/a"
        self.path = partial.path_of(directory, self.url)
        self.said: list[str] = []

    def attempt(self, limit: int = 1 << 30) -> bytes:
        found = partial.acquire(self.path, lambda: None)
        assert found is not None
        with found, Client(Access(["http"])) as client:
            request = Request(self.url, limit=limit)
            with Download(client, request, found, progress=Progress(), notify=self.said.append) as download:
                assert download.open()
                parts = []
                while data := download.read(1000):
                    parts.append(data)
            found.discard()
        return b"".join(parts)


@pytest.mark.promise("P6")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 20_000),
    cuts=st.lists(st.integers(0, 21_000), max_size=12),
    kind=st.sampled_from(["etag", "date", "none"]),
)
def test_cuts_anywhere(site: Site, tmp_path: os.PathLike[str], size: int, cuts: list[int], kind: str) -> None:
    """However often the connection breaks: what has come to its end is all of it, in order."""
    data = os.urandom(size)
    page = tagged(data, cuts=list(cuts))
    if kind != "etag":
        page.etag = ""
        page.last_modified = "Mon, 23 Nov 2026 10:00:00 GMT" if kind == "date" else ""
    site.pages["/a"] = page
    reader = Reader(site, os.fspath(tmp_path))
    for _ in range(len(cuts) + 1):
        try:
            got = reader.attempt()
        except TransferError:
            continue
        break
    else:
        got = reader.attempt()
    assert got == data
    assert os.listdir(tmp_path) == []


def test_limit(site: Site, tmp_path: os.PathLike[str]) -> None:
    site.pages["/a"] = Page(b"x" * 1000)
    reader = Reader(site, os.fspath(tmp_path))
    with pytest.raises(HttpError, match="larger than 999 bytes"):
        reader.attempt(999)
    assert os.listdir(tmp_path) == []
    assert reader.attempt(1000) == b"x" * 1000


def test_status_is_no_content(site: Site, tmp_path: os.PathLike[str]) -> None:
    for status in (204, 206, 401, 500):
        site.pages["/a"] = Page(b"something", status)
        with pytest.raises(HttpError, match=f"bad HTTP status code: {status}"):
            Reader(site, os.fspath(tmp_path)).attempt()
    assert os.listdir(tmp_path) == []


@pytest.mark.promise("P6")
def test_killed_before_any_call_of_the_kernel(site: Site, tmp_path: os.PathLike[str]) -> None:
    """The next fetch completes whatever was left, and then nothing is left over."""
    base = os.fspath(tmp_path)
    path = os.path.join(base, "made.aci")
    aci.build(path, aci.manifest("example.com/a"), [aci.Entry("f", os.urandom(5000))], compression="gzip")
    with open(path, "rb") as file:
        site.pages["/a.aci"] = tagged(file.read())
    url = f"{site.plain_url}/a.aci"

    def fetch(data_dir: str) -> str:
        with Store(data_dir) as store:
            options = ["image", "http"]
            with Fetcher(store, None, insecure=options, pull_policy=UPDATE, render=False) as fetcher:
                return fetcher.fetch(url)

    key = fetch(os.path.join(base, "reference"))
    for number in range(1, 1000):
        data_dir = os.path.join(base, str(number))
        done = Crash(lambda place=data_dir: fetch(place)).at(number)
        with Store(data_dir) as store:
            assert [info.key for info in store.images()] in ([], [key])
            assert fetch(data_dir) == key
            collector.collect_leftovers(store)
            partial.collect(store.places.temporary, 0)
            assert os.listdir(store.places.temporary) == []
            with store.open_blob(key) as blob:
                assert len(blob.read()) > 5000
        if done:
            break
    else:
        raise AssertionError("the work never ends")
    assert number > 30
