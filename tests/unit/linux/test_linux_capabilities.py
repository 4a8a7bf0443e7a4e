from __future__ import annotations

import os

import pytest

from rkt.linux import capabilities


def in_child(check) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def status(field: str) -> str:
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith(field + ":"))


def test_numbers_are_the_kernels():
    assert capabilities.NUMBERS["CAP_CHOWN"] == 0
    assert capabilities.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert capabilities.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert capabilities.last_capability() == int(file.read())


@pytest.mark.promise("P5")
def test_bounding_set_keeps_what_is_named():
    keep = {capabilities.NUMBERS[name] for name in ("CAP_CHOWN", "CAP_KILL")} & capabilities.bounding()

    def check() -> bool:
        capabilities.drop_bounding(keep)
        mask = sum(1 << number for number in keep)
        return capabilities.bounding() == keep and int(status("CapBnd"), 16) == mask

    assert in_child(check) == 0


@pytest.mark.promise("P5")
def test_sets_of_a_thread():
    def check() -> bool:
        low, high = capabilities.NUMBERS["CAP_KILL"], capabilities.NUMBERS["CAP_SYSLOG"]
        capabilities.set_capabilities([low], [low, high], [low])
        capabilities.raise_ambient([low])
        ambient = int(status("CapAmb"), 16)
        capabilities.clear_ambient()
        return (
            capabilities.get_capabilities() == ({low}, {low, high}, {low})
            and int(status("CapPrm"), 16) == 1 << low | 1 << high
            and ambient == 1 << low
            and int(status("CapAmb"), 16) == 0
        )

    assert in_child(check) == 0


@pytest.mark.promise("P5")
def test_no_new_privileges():
    def check() -> bool:
        capabilities.set_no_new_privileges()
        return status("NoNewPrivs") == "1"

    assert in_child(check) == 0
