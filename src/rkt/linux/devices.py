"""Which device nodes the processes of a cgroup may open: the devices controller, or BPF in version 2.

Without this a process that may mknod(2) reads the host's disks.  Making nodes stays allowed (archives
hold some); opening them is what is refused.
"""

from __future__ import annotations

import os
import struct

from rkt.linux import cgroup, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_TYPE_DEVICE = 6
_ALLOW_MULTI = 2
_NUMBERS = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "i686": 357}

_ACCESS = {"m": 1, "r": 2, "w": 4}
_TYPE = {"b": 1, "c": 2}

# struct bpf_insn: code, registers (destination low), offset, immediate
_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE_REGISTER = 0xBF
_MOVE = 0xB7
_AND = 0x57
_SHIFT_RIGHT = 0x77
_JUMP_NOT_EQUAL = 0x55
_JUMP_SET = 0x45
_EXIT = 0x95


class Rule:
    """Devices of a ``kind`` ("c" or "b") whose numbers match (None: any), for ``access`` of ``rwm``."""

    __slots__ = ("access", "kind", "major", "minor")

    def __init__(self, kind: str, major: int | None, minor: int | None, access: str) -> None:
        self.kind, self.major, self.minor, self.access = kind, major, minor, access

    def __str__(self) -> str:
        numbers = ":".join("*" if number is None else str(number) for number in (self.major, self.minor))
        return f"{self.kind} {numbers} {self.access}"


def restrict(path: str, rules: Sequence[Rule], *, mounted: list[cgroup.Hierarchy]) -> bool:
    """Let the processes of a cgroup use only what one of the rules allows; False if there is no means.

    ``mounted`` are the hierarchies in which ``path`` exists.  With version 1 its controller decides, else
    a BPF program on the cgroup of version 2.
    """
    for hierarchy in mounted:
        if "devices" in hierarchy.controllers:
            directory = hierarchy.directory(path)
            cgroup.write_value(directory, "devices.deny", "a")
            for rule in rules:
                try:
                    cgroup.write_value(directory, "devices.allow", str(rule))
                except PermissionError:
                    continue  # the cgroup above does not have it either
            return True
    for hierarchy in mounted:
        if hierarchy.unified:
            return attach(hierarchy.directory(path), rules)
    return False


def attach(directory: str, rules: Sequence[Rule]) -> bool:
    """Attach a device program to a cgroup directory of version 2; False where the kernel has no such."""
    number = _NUMBERS.get(os.uname().machine)
    if number is None:
        return False
    code = program(rules)
    text = libc.create_string_buffer(code, len(code))
    licence = libc.create_string_buffer(b"GPL")
    # union bpf_attr: program type, instructions and their number, licence; the rest is zero.
    load = struct.pack(
        "=IIQQIIQII", _PROG_TYPE_CGROUP_DEVICE, len(code) // 8, libc.addressof(text), libc.addressof(licence),
        0, 0, 0, 0, 0,
    )  # fmt: skip
    fd = libc.check(_bpf(number, _PROG_LOAD, load), "load device filter")
    try:
        target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            attachment = struct.pack("=IIII", target, fd, _ATTACH_TYPE_DEVICE, _ALLOW_MULTI)
            libc.check(_bpf(number, _PROG_ATTACH, attachment), "attach device filter", directory)
        finally:
            os.close(target)
    finally:
        os.close(fd)
    return True


def _bpf(number: int, command: int, attributes: bytes) -> int:
    buffer = libc.create_string_buffer(attributes, 128)
    return libc.bpf(number, command, libc.byref(buffer), len(attributes))


def program(rules: Sequence[Rule]) -> bytes:
    """The BPF instructions: return 1 when a rule allows the access, else 0.

    The context is ``struct bpf_cgroup_dev_ctx``: access << 16 | type, major, minor.
    """
    body = [
        _instruction(_LOAD_WORD, 2, 1, 0, 0),
        _instruction(_MOVE_REGISTER, 3, 2, 0, 0),
        _instruction(_AND, 2, 0, 0, 0xFFFF),
        _instruction(_SHIFT_RIGHT, 3, 0, 0, 16),
        _instruction(_LOAD_WORD, 4, 1, 4, 0),
        _instruction(_LOAD_WORD, 5, 1, 8, 0),
    ]
    for rule in rules:
        refused = 7 & ~sum(_ACCESS[letter] for letter in rule.access)
        tests = [(_JUMP_NOT_EQUAL, 2, _TYPE[rule.kind])]
        if refused:
            tests.append((_JUMP_SET, 3, refused))
        if rule.major is not None:
            tests.append((_JUMP_NOT_EQUAL, 4, rule.major))
        if rule.minor is not None:
            tests.append((_JUMP_NOT_EQUAL, 5, rule.minor))
        # A test that fails skips the tests after it and the two instructions that allow.
        for position, (code, register, value) in enumerate(tests):
            body.append(_instruction(code, register, 0, len(tests) - position - 1 + 2, value))
        body += [_instruction(_MOVE, 0, 0, 0, 1), _instruction(_EXIT, 0, 0, 0, 0)]
    body += [_instruction(_MOVE, 0, 0, 0, 0), _instruction(_EXIT, 0, 0, 0, 0)]
    return b"".join(body)


def _instruction(code: int, destination: int, source: int, offset: int, immediate: int) -> bytes:
    return struct.pack("=BBhi", code, destination | source << 4, offset, immediate)
