from __future__ import annotations

import errno
import os
import struct

import pytest

from rkt.errors import RktError
from rkt.linux import capabilities, seccomp

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
ENOSYS = seccomp.refuse(errno.ENOSYS)


def verdict(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel's BPF machine answers: an interpreter of the instructions filters may have."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(word & (1 << 64) - 1 for word in words))
    counter = accumulator = steps = 0
    while True:
        code, true, false, value = struct.unpack_from("=HBBI", program, counter * 8)
        counter += 1
        steps += 1
        assert steps < 100
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x05:
            counter += value
        else:
            taken = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}[code]
            counter += true if taken else false


def test_tables_are_those_of_the_headers():
    for name, numbers in {
        "x86_64": {"read": 0, "execve": 59, "openat2": 437, "landlock_create_ruleset": 444, "mseal": 462},
        "i386": {"exit": 1, "socketcall": 102, "openat2": 437, "clock_gettime64": 403},
        "aarch64": {"io_setup": 0, "openat": 56, "execve": 221, "fstat": 80, "openat2": 437},
    }.items():
        table = seccomp.table(name)
        assert {key: table[key] for key in numbers} == numbers
        assert len(set(table.values())) == len(table) > 300
    with pytest.raises(RktError, match="s390x"):
        seccomp.architectures("s390x")


@pytest.mark.promise("P5")
@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_number_has_its_verdict(allow, machine):
    table = seccomp.table(machine)
    names = sorted(table)[::3]
    action = seccomp.refuse(errno.EPERM)
    program = seccomp.compile_filter(names, allow=allow, action=action, machine=machine)
    listed = {table[name] for name in names}
    architecture = {"x86_64": X86_64, "aarch64": AARCH64}[machine]
    for number in range(600):
        passes = (number in listed) == allow
        assert verdict(program, architecture, number) == (seccomp.ALLOW if passes else action), number
    assert verdict(program, architecture, 0x3FFFFFFF) == (action if allow else seccomp.ALLOW)


@pytest.mark.promise("P5")
@pytest.mark.parametrize("allow", [True, False])
def test_no_other_numbering_leads_around(allow):
    program = seccomp.compile_filter(["read", "mount"], allow=allow, machine="x86_64")
    i386 = seccomp.table("i386")
    expected = seccomp.ALLOW if allow else seccomp.KILL_PROCESS
    assert verdict(program, I386, i386["mount"]) == expected
    assert verdict(program, I386, i386["umount2"]) != expected
    for number in (0, 165, 21):
        assert verdict(program, X86_64, 0x40000000 | number) == ENOSYS
        assert verdict(program, ARM, number) == ENOSYS
        assert verdict(program, AARCH64, number) == ENOSYS
    assert verdict(program, X86_64, 0xFFFFFFFF) == ENOSYS


def test_ranges_are_merged():
    names = [name for name, number in seccomp.table("x86_64").items() if number < 300]
    program = seccomp.compile_filter(names, allow=True, machine="x86_64")
    assert len(program) // 8 < 260
    everything = seccomp.compile_filter(seccomp.table("aarch64"), allow=True, machine="aarch64")
    assert len(everything) // 8 < 30


BIG = 1 << 40


@pytest.mark.parametrize(
    ("operator", "value", "mask", "true", "false"),
    [
        ("==", BIG + 5, None, [BIG + 5], [5, BIG, BIG + 6, 2 * BIG + 5]),
        ("!=", BIG + 5, None, [5, BIG, BIG + 6], [BIG + 5]),
        (">", BIG + 5, None, [BIG + 6, 2 * BIG], [BIG + 5, BIG, 5, 0xFFFFFFFF]),
        (">=", BIG + 5, None, [BIG + 5, 2 * BIG], [BIG + 4, 0xFFFFFFFF]),
        ("<", BIG + 5, None, [BIG + 4, 0xFFFFFFFF, 0], [BIG + 5, 2 * BIG]),
        ("<=", BIG + 5, None, [BIG + 5, 0], [BIG + 6, 2 * BIG]),
        ("&", 0x10000, BIG | 0x10000, [0x10000, 0x10001], [0, BIG | 0x10000, BIG]),
    ],
)
def test_comparisons(operator, value, mask, true, false):
    comparison = (
        seccomp.Comparison(1, operator, value)
        if mask is None
        else seccomp.Comparison(1, operator, value, mask)
    )
    action = seccomp.refuse(errno.EPERM)
    program = seccomp.compile_filter(
        ["ioctl"], allow=False, action=action, conditions={"ioctl": [[comparison]]}, machine="x86_64"
    )
    number = seccomp.table("x86_64")["ioctl"]
    for argument in true:
        assert verdict(program, X86_64, number, 0, argument) == action
    for argument in false:
        assert verdict(program, X86_64, number, 0, argument) == seccomp.ALLOW


def test_alternatives_and_conjunctions():
    rule = [
        [seccomp.Comparison(0, "==", 1), seccomp.Comparison(2, ">", 10)],
        [seccomp.Comparison(0, "==", 2)],
    ]
    program = seccomp.compile_filter(["clone"], allow=True, conditions={"clone": rule}, machine="aarch64")
    number = seccomp.table("aarch64")["clone"]
    for arguments, passes in (
        ((1, 0, 11), True),
        ((1, 0, 10), False),
        ((2, 0, 0), True),
        ((3, 0, 99), False),
    ):
        expected = seccomp.ALLOW if passes else seccomp.KILL_PROCESS
        assert verdict(program, AARCH64, number, *arguments) == expected


def in_child(action) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except OSError as error:
            os._exit(error.errno or 0)
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.promise("P5")
def test_the_kernel_obeys(tmp_path):
    def refused() -> None:
        seccomp.load(
            seccomp.compile_filter(["mkdir", "mkdirat"], allow=False, action=seccomp.refuse(errno.EDOM))
        )
        os.listdir(tmp_path)
        os.mkdir(f"{tmp_path}/x")

    def killed() -> None:
        seccomp.load(seccomp.compile_filter(["getppid"], allow=False))
        os.getppid()

    def unprivileged() -> None:
        os.setresuid(1, 1, 1)
        try:
            seccomp.load(seccomp.compile_filter(["getppid"], allow=False))
        except PermissionError:
            capabilities.set_no_new_privileges()
            seccomp.load(seccomp.compile_filter(["getppid"], allow=False))
            os.getppid()

    assert in_child(refused) == errno.EDOM
    assert in_child(killed) == -31
    assert in_child(unprivileged) == -31
    assert os.listdir(tmp_path) == []


@pytest.mark.promise("P5")
def test_an_allow_list_runs_a_program():
    names = set(seccomp.table("x86_64")) - {"mkdir", "mkdirat"}

    def program() -> None:
        seccomp.load(seccomp.compile_filter(names, allow=True, action=seccomp.refuse(errno.EPERM)))
        os.execve("/bin/sh", ["sh", "-c", "mkdir /tmp/never 2>/dev/null || exit 9"], {})

    assert in_child(program) == 9
