"""The table of images: what ``rkt fetch`` of an image file costs beside the tools that do parts of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tarfile
import time

from support import aci

TARGET = 200_000_000
"""Bytes of files in the image."""
_SHARES = {
    "/usr/bin": 0.3,
    "/usr/lib/python3.11": 0.2,
    f"/usr/lib/{os.uname().machine}-linux-gnu": 0.3,
    "/usr/share": 0.2,
}


def build(path: str) -> str:
    """A gzipped image of files of this machine: programs, libraries, modules and documents."""
    import gzip
    import io
    import json

    document = json.dumps(aci.manifest("example.com/large")).encode()
    with (
        gzip.open(path, "wb", compresslevel=6) as plain,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        info = tarfile.TarInfo("manifest")
        info.size = len(document)
        tar.addfile(info, io.BytesIO(document))
        root = tarfile.TarInfo("rootfs")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(root)
        for top, share in _SHARES.items():
            _add(tar, top, int(TARGET * share))
    return path


def _add(tar: tarfile.TarFile, top: str, size: int) -> None:
    """Regular files below ``top`` in the order of their names, as long as they fit into ``size``."""
    for parent, directories, names in os.walk(top):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            if os.path.isfile(path) and not os.path.islink(path) and status.st_size <= size:
                size -= status.st_size
                info = tar.gettarinfo(path, f"rootfs{path}")
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", status.st_size
                with open(path, "rb") as file:
                    tar.addfile(info, file)


def shell(*commands: str) -> list[str]:
    return ["sh", "-ec", "; ".join(commands)]


def fetch_command(rkt: list[str], data: str, image: str) -> list[str]:
    return [rkt[0], f"--dir={data}", *rkt[2:], "fetch", image]


def commands(rkt: list[str], base: str, image: str) -> list[tuple[str, list[str]]]:
    """The contenders by name: all of them leave what they wrote on disk."""
    data, tree = os.path.join(base, "fetched"), os.path.join(base, "unpacked")
    fetch = shlex.join(fetch_command(rkt, data, image))
    tar = shlex.join(["tar", "-C", tree, "-xzf", image])
    digest = f"gzip -dc {shlex.quote(image)} | sha512sum"
    return [
        ("rkt fetch (verify layout, hash, store, unpack)", shell(fetch, "sync")),
        ("tar -xzf", shell(f"mkdir {shlex.quote(tree)}", tar, "sync")),
        ("gzip -d, sha512sum", shell(digest, "sync")),
    ]


def empty(base: str) -> None:
    """Remove what the contenders made, and have nothing of it left to be written."""
    for name in ("fetched", "unpacked"):
        shutil.rmtree(os.path.join(base, name), ignore_errors=True)
    os.sync()


def peak(argv: list[str], environment: dict[str, str]) -> int:
    """The most memory (bytes, proportional set size) a command and its children had at once, sampled."""
    most = 0
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=environment) as process:
        while process.poll() is None:
            most = max(most, sum(_memory(pid) for pid in _family(process.pid)))
            time.sleep(0.01)
    return most


def _family(pid: int) -> list[int]:
    found = [pid]
    for member in found:
        try:
            with open(f"/proc/{member}/task/{member}/children") as file:
                found += [int(word) for word in file.read().split()]
        except OSError:
            continue
    return found


def _memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
    except OSError:
        return 0
