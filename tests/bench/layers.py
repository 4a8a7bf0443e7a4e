"""Fetching images of several layers from a registry on the loopback interface, beside podman and skopeo.

The layers are files of this machine's /usr, about 1 GB, as they would be in an image of Debian packages.
Before each round the stores are emptied; what is timed includes writing to the disk (``sync``) for all alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from typing import Any

from support import peak
from support.registry import Registry

LAYERS = 5
SIZE = 1 << 30
ROUNDS = 5
_TAR = ["tar", "--numeric-owner", "--no-recursion", "--null", "-C", "/", "-cf"]


def choose(size: int) -> list[list[str]]:
    """Paths below /usr, directory by directory until there are ``size`` bytes, each layer as many."""
    found: list[list[str]] = [[] for _ in range(LAYERS)]
    total = 0
    for parent, directories, names in os.walk("/usr"):
        directories.sort()
        if total >= size:
            break
        layer = found[min(LAYERS - 1, total * LAYERS // size)]
        layer.append(parent[1:])
        for name in sorted(names):
            path = os.path.join(parent, name)
            layer.append(path[1:])
            total += os.lstat(path).st_size if not os.path.islink(path) else 0
    return found


class Layout:
    """An OCI layout with the images ``one`` and ``two``, which have all layers but the last in common."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(os.path.join(path, "blobs/sha256"))
        shared = [self._layer(paths) for paths in choose(SIZE)]
        images = []
        for name in ("one", "two"):
            with open(os.path.join(path, name), "w") as file:
                file.write(name)
            own = self._layer([os.path.join(path, name)[1:]])
            images.append(self._image(name, [*shared, own]))
        index = {"schemaVersion": 2, "manifests": images}
        self._write("index.json", index)
        self._write("oci-layout", {"imageLayoutVersion": "1.0.0"})

    def _write(self, name: str, value: Any) -> None:
        with open(os.path.join(self.path, name), "w") as file:
            json.dump(value, file)

    def _blob(self, data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.path, "blobs/sha256", digest), "wb") as file:
            file.write(data)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def _layer(self, paths: list[str]) -> tuple[str, dict[str, Any]]:
        """The digest of an archive of the files, and the descriptor of it compressed."""
        tar = subprocess.run(
            [*_TAR, "-", "--files-from=-"], input="\0".join(paths).encode(), capture_output=True, check=True
        ).stdout
        packed = subprocess.run(["gzip", "-6", "-n"], input=tar, capture_output=True, check=True).stdout
        return f"sha256:{hashlib.sha256(tar).hexdigest()}", self._blob(packed, "layer.v1.tar+gzip")

    def _image(self, name: str, layers: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        config = {
            "created": "2026-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._blob(json.dumps(config).encode(), "config.v1+json"),
            "layers": [descriptor for _, descriptor in layers],
        }
        found = self._blob(json.dumps(manifest).encode(), "manifest.v1+json")
        return {**found, "annotations": {"org.opencontainers.image.ref.name": name}}


class Fetch:
    """One way to get an image; ``command`` has ``{name}`` where the image's name goes."""

    def __init__(self, name: str, command: str, store: str, environment: dict[str, str]) -> None:
        self.name, self._command, self._store, self._environment = name, command, store, environment
        self.first: list[float] = []
        self.second: list[float] = []
        self.memory = 0

    def round(self) -> None:
        """Empty the store and get both images."""
        subprocess.run(["umount", "-q", f"{self._store}/overlay"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self._store, ignore_errors=True)
        os.sync()
        self.first.append(self._once("one"))
        self.second.append(self._once("two"))

    def _once(self, name: str) -> float:
        command = self._command.format(name=name)
        with tempfile.TemporaryFile() as measured:
            words = peak.measuring(["sh", "-ec", command], measured)
            start = time.perf_counter()
            done = subprocess.run(
                words,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self._environment,
                pass_fds=[measured.fileno()],
                check=False,
            )
            os.sync()
            elapsed = time.perf_counter() - start
            if done.returncode:
                raise SystemExit(f"{command}\nexit {done.returncode}\n{done.stderr.decode()}")
            self.memory = max(self.memory, peak.read(measured) >> 20)
        return elapsed


def tables(rkt: list[str], base: str, environment: dict[str, str], rounds: int) -> list[str]:
    """The lines of the tables; ``rkt`` is its command line up to the command."""
    layout = Layout(os.path.join(base, "layout"))
    with Registry(os.path.join(base, "registry")) as registry:
        for name in ("one", "two"):
            registry.push(f"oci:{layout.path}:{name}", f"bench/{name}:1")
        shutil.rmtree(layout.path)
        image = f"docker://{registry.host}/bench/{{name}}:1"
        store = os.path.join(base, "images")
        data = shlex.join([*rkt, f"--dir={store}", "--insecure-options=image,http", "fetch"])
        podman = f"podman --root={store} --runroot={store}-run"
        containers = f"containers-storage:[overlay@{store}+{store}-run]bench/{{name}}:1"
        skopeo = "skopeo copy --quiet --insecure-policy --src-tls-verify=false"
        fetches = [
            Fetch("rkt fetch", f"{data} {image}", store, environment),
            Fetch("podman pull", f"{podman} pull -q --tls-verify=false {image}", store, environment),
            Fetch(
                "skopeo copy to containers-storage",
                f"{skopeo} {image} {shlex.quote(containers)}",
                store,
                environment,
            ),
            Fetch(
                "skopeo copy to a directory (not unpacked)",
                f"mkdir -p {store} && {skopeo} {image} dir:{store}/{{name}}",
                store,
                environment,
            ),
        ]
        for _ in range(rounds):
            for fetch in fetches:
                fetch.round()
        shutil.rmtree(store, ignore_errors=True)
    return _format(fetches)


def _format(fetches: list[Fetch]) -> list[str]:
    peer = next(fetch for fetch in fetches if fetch.name == "podman pull")
    lines = [
        f"## Image of {LAYERS + 1} layers, {SIZE >> 20} MiB unpacked, from docker-registry on loopback",
        "",
        "| | ratio to podman pull | median s | second image sharing its layers, s | largest process, MiB |",
        "|---|---|---|---|---|",
    ]
    for fetch in fetches:
        first, second = statistics.median(fetch.first), statistics.median(fetch.second)
        ratio = first / statistics.median(peer.first)
        lines.append(f"| {fetch.name} | {ratio:.2f} | {first:.2f} | {second:.2f} | {fetch.memory} |")
    return [*lines, ""]
