"""The images: the same bytes every time, the manifest of the interface, code that loads as compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile

import pytest

from rkt.appc.image import ImageManifest
from support import driver


@pytest.fixture(scope="module", params=["host", "fly"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    path = os.fspath(tmp_path_factory.mktemp("stage1") / "image.aci")
    make(request.param, path)
    return request.param, path


def make(flavor: str, path: str) -> None:
    """As make does it: what marshal writes of a name depends on who else has that name in a process."""
    command = [sys.executable, "-m", "rkt.stage1.build", f"--flavor={flavor}", f"--output={path}"]
    subprocess.run(command, env={"PYTHONPATH": os.path.join(driver.ROOT, "src")}, check=True)


def test_building_twice_gives_the_same_bytes(image: tuple[str, str], tmp_path: object) -> None:
    flavor, path = image
    other = f"{tmp_path}/other.aci"
    make(flavor, other)
    with open(path, "rb") as first, open(other, "rb") as second:
        assert first.read() == second.read()


@pytest.mark.promise("P11")
def test_manifest(image: tuple[str, str]) -> None:
    flavor, path = image
    with tarfile.open(path) as tar:
        names = tar.getnames()
        file = tar.extractfile("manifest")
        assert file is not None
        data = file.read()
    assert len(names) == len(set(names))
    manifest = ImageManifest.decode(data)
    manifest.check()
    assert manifest.name == f"coreos.com/rkt/stage1-{flavor}"
    found = {entry.name.rpartition("/")[2]: entry.value for entry in manifest.annotations}
    first = {"host": "/init", "fly": "/run"}[flavor]
    version = {"host": "6", "fly": "5"}[flavor]
    attach = {"attach": "/attach"} if flavor == "host" else {}
    assert found == {
        "run": first, **attach, "enter": "/enter", "gc": "/gc", "stop": "/stop", "interface-version": version,
        "extensions": "strict-isolators",
    }  # fmt: skip
    assert {label["name"] for label in json.loads(data)["labels"]} == {"version", "os", "arch"}
    with tarfile.open(path) as tar:
        for entry in (first, *attach.values(), "/enter", "/gc", "/stop"):
            member = tar.getmember("rootfs" + entry)
            assert member.mode == 0o755 and (member.uid, member.gid) == (0, 0)


def test_entry_points_use_the_compiled_code(image: tuple[str, str], tmp_path: object) -> None:
    """Without the source the entry points still load: nothing is compiled, and nothing written."""
    flavor, path = image
    with tarfile.open(path) as tar:
        tar.extractall(str(tmp_path))
    root = f"{tmp_path}/rootfs"
    listed = _files(root)
    for entry in ("stop", "gc", "enter", *{"host": ("init", "attach"), "fly": ("run",)}[flavor]):
        done = subprocess.run(
            [f"{root}/{entry}", "--bogus"], capture_output=True, text=True, check=False, cwd="/", timeout=60
        )
        assert done.returncode == 254, done
        assert "bogus" in done.stderr and "Traceback" not in done.stderr
    assert listed == _files(root)


def _files(root: str) -> list[str]:
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(root) for name in names)


def test_start_up_imports(image: tuple[str, str], tmp_path: object) -> None:
    """No entry point loads what is known to be slow."""
    flavor, path = image
    forbidden = (
        "typing re enum dataclasses inspect logging subprocess pathlib argparse asyncio json contextlib "
        "functools shutil tempfile"
    ).split()
    with tarfile.open(path) as tar:
        tar.extractall(str(tmp_path))
    packages = {"host": ("systemd", ("init", "gc", "stop")), "fly": ("fly", ("run", "gc", "stop"))}
    package, modules = packages[flavor]
    for module in modules:
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r} + '/rootfs/usr/lib/rkt/stage1/python'); "
            f"import rkt.stage1.{package}.{module}; print(' '.join(sys.modules))"
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-IS", "-c", code], capture_output=True, text=True, check=True
        )
        assert not set(forbidden) & set(done.stdout.split()), module
