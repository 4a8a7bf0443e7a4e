"""Block devices behind files, as the block controllers of control groups name them: whole disks."""

from __future__ import annotations

import os
import stat

from rkt.linux import mountinfo
from rkt.linux import paths as path_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SYSFS = "/sys/dev/block"


def disks(paths: Iterable[str]) -> list[tuple[int, int]]:
    """(major, minor) of the disks that the files at these paths are on, or that they are; sorted.

    None for what is in memory, on the network, or in an overlay (whose layers are to be asked).
    """
    found = {device for path in paths if (device := _device(path)) is not None}
    return sorted({whole_disk(device) for device in found})


def _device(path: str) -> tuple[int, int] | None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        number = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
        if os.major(number):
            return os.major(number), os.minor(number)
        # btrfs has numbers of its own for its subvolumes; what it is mounted from is told
        mount_id = path_calls.mount_id(fd)
    finally:
        os.close(fd)
    source = next((entry.source for entry in mountinfo.read() if entry.id == mount_id), "")
    if not source.startswith("/"):
        return None
    try:
        status = os.stat(source)
    except OSError:
        return None
    if not stat.S_ISBLK(status.st_mode):
        return None
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def whole_disk(device: tuple[int, int], sysfs: str = _SYSFS) -> tuple[int, int]:
    """The disk of a partition, or below a device that lies on a single other one (encryption, a volume).

    Limits are kept by disks only (cgroups(7), ``io.max``); a device on several others is its own disk.
    """
    for _ in range(16):
        directory = f"{sysfs}/{device[0]}:{device[1]}"
        try:
            below = os.listdir(f"{directory}/slaves")
        except FileNotFoundError:
            below = []
        if len(below) == 1:
            name = f"{directory}/slaves/{below[0]}/dev"
        elif os.path.exists(f"{directory}/partition"):
            name = f"{os.path.dirname(os.path.realpath(directory))}/dev"
        else:
            break
        with open(name) as file:
            major, minor = file.read().strip().split(":")
        device = int(major), int(minor)
    return device
