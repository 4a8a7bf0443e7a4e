"""System call filters: from names to a BPF program (seccomp(2)), without libseccomp.

Each architecture's numbers become ranges with one verdict each, and the program searches them by
halving: a filter of 340 names is about 60 instructions and takes 7 steps a call.  Calls of an
architecture without a table here, and those of x32, are refused with ENOSYS whatever the list says, so
that no second numbering leads around the filter.
"""

from __future__ import annotations

import errno
import os
import struct

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KILL_PROCESS = 0x80000000
TRAP = 0x00030000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

ESSENTIAL = ("execve", "exit", "exit_group", "rt_sigreturn", "sigreturn", "restart_syscall")
"""What every program needs to be started, to return from a signal and to end."""

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "&")

_MACHINES = {
    "x86_64": ("x86_64", "i386"),
    "aarch64": ("aarch64",),
    "i686": ("i386",),
}
_AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_LIMIT = 4096  # BPF_MAXINSNS

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP = 0x05  # BPF_JMP | BPF_JA
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_OFFSET_NUMBER = 0
_OFFSET_ARCHITECTURE = 4
_OFFSET_ARGUMENTS = 16

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2


def refuse(number: int) -> int:
    """The action that makes a call fail with this errno (0 to 4095)."""
    if not 0 <= number <= 4095:
        raise RktError(f"errno {number} is out of range")
    return 0x00050000 | number


class Comparison:
    """A condition on one argument (0 to 5) as an unsigned 64-bit number.

    ``operator`` is one of ``OPERATORS``; ``&`` compares only the bits of ``mask`` with ``value``.
    """

    __slots__ = ("argument", "mask", "operator", "value")

    def __init__(self, argument: int, operator: str, value: int, mask: int = 0xFFFFFFFFFFFFFFFF) -> None:
        if not 0 <= argument <= 5 or operator not in OPERATORS:
            raise ValueError(f"no comparison: argument {argument} {operator}")
        self.argument = argument
        self.operator = operator
        self.value = value & 0xFFFFFFFFFFFFFFFF
        self.mask = mask


def table(architecture: str) -> dict[str, int]:
    """The numbers of the system calls by name; ``architecture`` is x86_64, i386 or aarch64."""
    if architecture == "x86_64":
        from rkt.linux.syscalls_x86_64 import NAMES
    elif architecture == "i386":
        from rkt.linux.syscalls_i386 import NAMES
    elif architecture == "aarch64":
        from rkt.linux.syscalls_aarch64 import NAMES
    else:
        raise RktError(f"system calls of {architecture} are not known")
    numbers = {}
    number = 0
    for word in NAMES.split():
        if word.endswith(":"):
            number = int(word[:-1])
        else:
            numbers[word] = number
            number += 1
    return numbers


def architectures(machine: str | None = None) -> tuple[str, ...]:
    """The tables a machine (``os.uname().machine``, None: this one) needs, its own first."""
    name = os.uname().machine if machine is None else machine
    if name not in _MACHINES:
        raise RktError(f"system call filters are not known for {name}")
    return _MACHINES[name]


def is_known(name: str, machine: str | None = None) -> bool:
    """Whether any table of the machine has a system call of this name."""
    return any(name in table(architecture) for architecture in architectures(machine))


def compile_filter(
    names: Iterable[str],
    *,
    allow: bool,
    action: int = KILL_PROCESS,
    conditions: Mapping[str, Sequence[Sequence[Comparison]]] | None = None,
    exceptions: Mapping[str, int] | None = None,
    machine: str | None = None,
    native: bool = False,
) -> bytes:
    """The BPF instructions of a filter, for ``load``.

    With ``allow`` the calls of ``names`` pass and ``action`` (KILL_PROCESS, LOG, TRAP or ``refuse(errno)``)
    meets all others, otherwise it meets those of ``names`` only.  ``conditions`` limit a name to calls
    of which one alternative has all its comparisons true.  Names an architecture does not have are
    passed over there: lists are written for all architectures.  ``exceptions`` are names with an action of
    their own.  ``native``: for a program of the machine's own architecture, others are refused.
    """
    listed, rest = (ALLOW, action) if allow else (action, ALLOW)
    chosen = frozenset(names)
    program: list[bytes] = [_instruction(_LOAD, _OFFSET_ARCHITECTURE)]
    for architecture in architectures(machine)[: 1 if native else None]:
        numbers = table(architecture)
        verdicts: dict[int, list[bytes]] = {}
        for name in chosen:
            if name in numbers:
                alternatives = (conditions or {}).get(name)
                block = [_instruction(_RETURN, listed)]
                if alternatives is not None:
                    block = _conditional(alternatives, listed, rest)
                verdicts[numbers[name]] = block
        for name, verdict in (exceptions or {}).items():
            if name in numbers:
                verdicts[numbers[name]] = [_instruction(_RETURN, verdict)]
        body = [_instruction(_LOAD, _OFFSET_NUMBER)]
        if architecture == "x86_64":
            # All x32 numbers have bit 30 set under the same architecture: without this a deny list fails.
            body += [_instruction(_AT_LEAST, _X32_BIT, 0, 1), _instruction(_RETURN, refuse(errno.ENOSYS))]
        body += _search(_segments(verdicts, [_instruction(_RETURN, rest)]))
        program += [_instruction(_EQUAL, _AUDIT[architecture], 1, 0), _instruction(_JUMP, len(body)), *body]
    program.append(_instruction(_RETURN, refuse(errno.ENOSYS)))
    if len(program) > _LIMIT:
        raise RktError(f"the system call filter is too long: {len(program)} instructions of {_LIMIT}")
    return b"".join(program)


def _instruction(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """``struct sock_filter``; ``true`` and ``false`` are instructions to skip after a comparison."""
    return struct.pack("=HBBI", code, true, false, value)


def _segments(verdicts: dict[int, list[bytes]], rest: list[bytes]) -> list[tuple[int, list[bytes]]]:
    """The whole range of numbers as (first number, verdict), neighbours of one verdict merged."""
    segments = [(0, verdicts.get(0, rest))]
    for number in sorted(verdicts):
        for start in (number, number + 1):
            block = verdicts.get(start, rest)
            if segments[-1][0] == start:
                segments[-1] = (start, block)
            elif segments[-1][1] != block:
                segments.append((start, block))
    return segments


def _search(segments: list[tuple[int, list[bytes]]]) -> list[bytes]:
    """A tree of comparisons that ends in the verdict of the segment the number lies in."""
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    lower, upper = _search(segments[:middle]), _search(segments[middle:])
    if len(lower) <= 255:
        return [_instruction(_AT_LEAST, segments[middle][0], len(lower), 0), *lower, *upper]
    jump = [_instruction(_AT_LEAST, segments[middle][0], 0, 1), _instruction(_JUMP, len(lower))]
    return [*jump, *lower, *upper]


def _conditional(alternatives: Sequence[Sequence[Comparison]], listed: int, rest: int) -> list[bytes]:
    """The verdict ``listed`` if all comparisons of one alternative hold, else ``rest``."""
    block: list[bytes] = []
    for comparisons in alternatives:
        tail = [_instruction(_RETURN, listed)]
        for comparison in reversed(comparisons):
            tail = _compare(comparison, len(tail)) + tail
        block += tail
    return [*block, _instruction(_RETURN, rest)]


def _compare(comparison: Comparison, skip: int) -> list[bytes]:
    """Instructions that fall through if the comparison holds, else jump over ``skip`` more.

    Arguments are 64 bits wide, BPF words 32: the upper halves decide unless they are equal.
    """
    low_offset = _OFFSET_ARGUMENTS + 8 * comparison.argument
    load_high, load_low = _instruction(_LOAD, low_offset + 4), _instruction(_LOAD, low_offset)
    high, low = comparison.value >> 32, comparison.value & 0xFFFFFFFF
    operator = comparison.operator
    if operator == "!=":
        return [
            load_high,
            _instruction(_EQUAL, high, 0, 2),
            load_low,
            _instruction(_EQUAL, low, skip, 0),
        ]
    if operator in (">", ">="):
        last = _instruction(_GREATER if operator == ">" else _AT_LEAST, low, 0, skip)
        upper = [_instruction(_GREATER, high, 3, 0), _instruction(_EQUAL, high, 0, 2 + skip)]
        return [load_high, *upper, load_low, last]
    if operator in ("<", "<="):
        last = _instruction(_AT_LEAST if operator == "<" else _GREATER, low, skip, 0)
        upper = [_instruction(_GREATER, high, 3 + skip, 0), _instruction(_EQUAL, high, 0, 2)]
        return [load_high, *upper, load_low, last]
    mask_high, mask_low = comparison.mask >> 32 & 0xFFFFFFFF, comparison.mask & 0xFFFFFFFF
    tail = [load_low, _instruction(_AND, mask_low), _instruction(_EQUAL, low, 0, skip)]
    return [
        load_high,
        _instruction(_AND, mask_high),
        _instruction(_EQUAL, high, 0, len(tail) + skip),
        *tail,
    ]


def load(program: bytes) -> None:
    """Put this thread, and everything it starts, under the filter of ``compile_filter`` for good.

    Needs no_new_privs or CAP_SYS_ADMIN (EACCES otherwise).
    """
    from rkt.linux import libc

    buffer = libc.create_string_buffer(program, len(program))
    filter_program = libc.FilterProgram(len(program) // 8, libc.addressof(buffer))
    address = libc.addressof(filter_program)
    libc.check(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address, 0, 0), "load seccomp filter")
