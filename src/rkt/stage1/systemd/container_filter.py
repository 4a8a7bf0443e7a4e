"""The system call filter around a whole pod.

systemd-nspawn would build one of its own with libseccomp, which takes it 50 ms; this is the same list,
loaded before systemd-nspawn is executed, with fewer ways through:

* only this machine's own numbers and those of its 32-bit programs, never x32;
* nothing for time, modules, raw I/O or locked memory, whatever capabilities a pod has;
* no TIOCSTI and TIOCLINUX, with which a pod could type into a terminal it is given (CVE-2017-5226).

Refused calls fail with ENOSYS: programs then fall back to older ones.
"""

from __future__ import annotations

import errno

from rkt.errors import RktError
from rkt.linux import seccomp
from rkt.stage1.common import call_filter, compiled
from rkt.stage1.systemd.container_calls import NSPAWN

NAMES = ("container-terminal", "container-calls")
"""What the programs are called in an image (``rkt.stage1.common.compiled``)."""

_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C


def is_available() -> bool:
    """Whether this machine's system calls are known; if not, systemd-nspawn builds its own filter."""
    try:
        return bool(seccomp.architectures())
    except RktError:
        return False


def programs() -> list[bytes]:
    """BPF programs, in the order to load them."""
    return compiled.programs(NAMES) or compile_programs()


def compile_programs() -> list[bytes]:
    """The same, made from the lists."""
    # What an app may call has to pass this filter too; systemd's own filters see to the rest.
    names = frozenset(NSPAWN.split()) | call_filter.default_names()
    # The kernel looks at the lower half of the request only (CVE-2019-10063).
    terminal = [[seccomp.Comparison(1, "&", request, 0xFFFFFFFF)] for request in (_TIOCSTI, _TIOCLINUX)]
    return [
        seccomp.compile_filter(
            ["ioctl"], allow=False, action=seccomp.refuse(errno.EPERM), conditions={"ioctl": terminal}
        ),
        seccomp.compile_filter(names, allow=True, action=seccomp.refuse(errno.ENOSYS)),
    ]
