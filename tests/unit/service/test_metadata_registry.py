"""Registrations on disk: kept over a restart, dropped with their pods, never half read."""

from __future__ import annotations

import json
import os

import pytest
from test_metadata_answers import IMAGE, POD, TOKEN, UUID

from rkt.errors import RktError
from rkt.service.metadata.registry import Registry

OTHER = "6733c088-a507-4694-aabf-cc5da44fb09f"


@pytest.fixture
def directory(tmp_path: os.PathLike[str]) -> str:
    return os.path.join(os.fspath(tmp_path), "state")


def filled(directory: str, data_dir: str = "/nosuch") -> Registry:
    known = Registry(directory, lambda _: None)
    known.register(UUID, TOKEN, json.dumps(POD), data_dir)
    known.add_app(known.pods[UUID], "web", json.dumps(IMAGE))
    return known


def test_kept_over_a_restart(directory: str) -> None:
    first = filled(directory)
    signature, served = first.signature(UUID, b"x"), first.pods[UUID].pod_manifest
    first.close()
    second = Registry(directory, pytest.fail)
    registration = second.by_token(TOKEN)
    assert registration is not None
    assert (registration.uuid, registration.data_dir) == (UUID, "/nosuch")
    assert (registration.pod_manifest, second.signature(UUID, b"x")) == (served, signature)
    second.close()


def test_files_are_for_root_only_and_have_no_token(directory: str) -> None:
    filled(directory).close()
    found = {}
    for parent, names, files in os.walk(directory):
        for name in (*names, *files, "."):
            found[os.path.relpath(os.path.join(parent, name), directory)] = (
                os.stat(os.path.join(parent, name)).st_mode & 0o777
            )
    assert found == {".": 0o700, "key": 0o600, "pods": 0o700, f"pods/{UUID}": 0o600}
    with open(f"{directory}/pods/{UUID}") as file:
        assert TOKEN not in file.read()


def test_pods_that_are_gone_are_dropped(directory: str, tmp_path: os.PathLike[str]) -> None:
    data = os.path.join(os.fspath(tmp_path), "data")
    for state in ("run", "exited-garbage"):
        os.makedirs(f"{data}/pods/{state}")
    os.mkdir(f"{data}/pods/run/{UUID}")
    filled(directory, data).close()
    said: list[str] = []
    Registry(directory, said.append).close()
    os.rename(f"{data}/pods/run/{UUID}", f"{data}/pods/exited-garbage/{UUID}")
    Registry(directory, said.append).close()
    assert said == []
    os.rmdir(f"{data}/pods/exited-garbage/{UUID}")
    known = Registry(directory, said.append)
    assert (known.pods, known.by_token(TOKEN)) == ({}, None)
    assert said == [f"pod {UUID} is gone, its registration is dropped"]
    assert os.listdir(f"{directory}/pods") == []
    known.close()


def test_only_one_service_at_a_time(directory: str) -> None:
    first = filled(directory)
    with pytest.raises(RktError, match="another metadata service is running"):
        Registry(directory, pytest.fail)
    first.close()
    Registry(directory, pytest.fail).close()


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\0" * 100,
        b'{"token":1,"dir":"","manifest":"","apps":{}}',
        b'{"token":"","dir":"","manifest":"{}","apps":{}}',
        json.dumps({"token": "", "dir": "", "manifest": json.dumps(POD), "apps": {"db": "{}"}}).encode(),
        json.dumps({"token": "", "dir": "", "manifest": json.dumps(POD), "apps": {"web": 1}}).encode(),
    ],
)
def test_damaged_file_costs_one_pod(directory: str, content: bytes) -> None:
    filled(directory).close()
    with open(f"{directory}/pods/{OTHER}", "wb") as file:
        file.write(content)
    with open(f"{directory}/pods/.{OTHER}.012345.new", "wb") as file:
        file.write(b"half")
    said: list[str] = []
    known = Registry(directory, said.append)
    assert list(known.pods) == [UUID]
    assert len(said) == 1
    assert "is damaged, it is dropped" in said[0]
    assert os.listdir(f"{directory}/pods") == [UUID]
    known.close()


@pytest.mark.promise("P6")
def test_damaged_key_is_replaced(directory: str) -> None:
    known = filled(directory)
    known.close()
    with open(f"{directory}/key", "wb") as file:
        file.write(b"short")
    said: list[str] = []
    again = Registry(directory, said.append)
    assert (len(again.key), len(said)) == (64, 1)
    assert again.key != known.key
    again.close()
