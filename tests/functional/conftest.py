"""Fixtures of the tests that fetch: a web site, the program that trusts it, and people who sign."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from functional import fetching
from support.driver import Rkt
from support.signing import Signer
from support.web import Site


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(os.fspath(tmp_path_factory.mktemp("gpg") / "home"))
    for name in ("alice", "mallory"):
        made.key(name)
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: os.PathLike[str]) -> Iterator[Site]:
    with Site(os.path.join(os.fspath(tmp_path), "web")) as made:
        yield made


@pytest.fixture
def client(rkt: Rkt, site: Site) -> Rkt:
    """bin/rkt that trusts the site's authority and reaches it under every name."""
    rkt.environment.update(site.environment)
    return rkt


@pytest.fixture
def data(tmp_path: os.PathLike[str]) -> bytes:
    return fetching.image(os.fspath(tmp_path))
