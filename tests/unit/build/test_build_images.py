"""What becomes of image files that the tools are given."""

from __future__ import annotations

import os

import pytest

from rkt.build import images
from rkt.errors import RktError
from support import aci


@pytest.mark.parametrize("kind", ["none", "gzip", "xz"])
def test_a_worker_takes_apart_what_is_checked(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = os.path.join(tmp_path, "made.aci")
    aci.build(path, aci.manifest("example.com/app"), [aci.Entry("f", b"x" * 5000)], compression=kind)

    def here(*_: object, **__: object) -> None:
        raise AssertionError("a stranger's file is read by the tool itself")

    monkeypatch.setattr(images.compression, "open_reader", here)
    monkeypatch.setattr(images.archive, "Reader", here)
    assert images.check_image(path).name == "example.com/app"
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)
    with pytest.raises(RktError):
        images.check_image(path)
