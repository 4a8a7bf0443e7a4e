"""Fixtures for tests that hold for both flavors."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from flavors import NAMES, Flavor
from systemd_pod import leftovers, pods

from support import aci, driver


@pytest.fixture(scope="session")
def probe_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that can run the host's Python from a volume at /usr."""
    path = os.path.join(tmp_path_factory.mktemp("images"), "probe.aci")
    entries = [aci.symlink(name, f"usr/{name}") for name in ("lib", "lib64")]
    return aci.busybox(path, "example.com/probe", entries=entries)


@pytest.fixture(params=NAMES)
def flavor(request: pytest.FixtureRequest, rkt: driver.Rkt, probe_image: str) -> Iterator[Flavor]:
    """Each flavor in turn; at the end nothing is left of its pods."""
    assert os.path.exists(f"{driver.STAGE1}/stage1-{request.param}.aci"), "no stage1 images: make stage1"
    yield Flavor(rkt, request.param, probe_image)
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []
