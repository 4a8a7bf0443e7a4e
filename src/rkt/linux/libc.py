"""The C library, loaded once: the only place where rkt uses ctypes.

Each function is declared with its argument types, so that a wrong call is a TypeError and not a crash.
A result of -1 becomes an OSError through ``check``.  System calls without a wrapper in glibc 2.36 go
through ``syscall(2)``; their numbers above 424 are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_longlong, c_size_t, c_uint, c_ulong, c_void_p

from rkt.linux.failure import os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_library = ctypes.CDLL(None, use_errno=True)


def _declare(name: str, *arguments: type[object]) -> Callable[..., int]:
    """A function of the C library that returns a C int; a missing one fails with ENOSYS when called."""
    try:
        return ctypes.CFUNCTYPE(c_int, *arguments, use_errno=True)((name, _library))  # type: ignore[arg-type]
    except AttributeError:
        return _missing


def _missing(*_: object) -> int:
    ctypes.set_errno(38)
    return -1


def check(result: int, operation: str, path: str | bytes | None = None) -> int:
    """``result`` unless it is -1, which raises the OSError of errno for ``operation`` on ``path``."""
    if result == -1:
        raise os_error(ctypes.get_errno(), operation, path)
    return result


def encode(path: str | bytes | None) -> bytes | None:
    """A path or option for the kernel; refuses NUL, at which C would cut it short."""
    if path is None:
        return None
    data = os.fsencode(path)
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data


mount = _declare("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
umount2 = _declare("umount2", c_char_p, c_int)
open_tree = _declare("open_tree", c_int, c_char_p, c_uint)
move_mount = _declare("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
mount_setattr = _declare("mount_setattr", c_int, c_char_p, c_uint, c_void_p, c_size_t)
fsopen = _declare("fsopen", c_char_p, c_uint)
fsconfig = _declare("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
fsmount = _declare("fsmount", c_int, c_uint, c_uint)
pivot_root = _declare("pivot_root", c_char_p, c_char_p)
unshare = _declare("unshare", c_int)
setns = _declare("setns", c_int, c_int)
prctl = _declare("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
capget = _declare("capget", c_void_p, c_void_p)
capset = _declare("capset", c_void_p, c_void_p)
renameat2 = _declare("renameat2", c_int, c_char_p, c_int, c_char_p, c_uint)
syncfs = _declare("syncfs", c_int)
sync_file_range = _declare("sync_file_range", c_int, c_longlong, c_longlong, c_uint)
fstatfs = _declare("fstatfs", c_int, c_void_p)
unlockpt = _declare("unlockpt", c_int)
ptsname_r = _declare("ptsname_r", c_int, c_char_p, c_size_t)

# syscall(2) takes longs; each use is declared with the types of the call behind it.
openat2 = _declare("syscall", c_long, c_int, c_char_p, c_void_p, c_size_t)
keyctl = _declare("syscall", c_long, c_int, c_char_p)
keyctl_numbers = _declare("syscall", c_long, c_int, c_int, c_uint, c_uint)
bpf = _declare("syscall", c_long, c_int, c_void_p, c_uint)
landlock_create_ruleset = _declare("syscall", c_long, c_void_p, c_size_t, c_uint)
landlock_add_rule = _declare("syscall", c_long, c_int, c_int, c_void_p, c_uint)
landlock_restrict_self = _declare("syscall", c_long, c_int, c_uint)

SYS_OPENAT2 = 437


class OpenHow(ctypes.Structure):
    """``struct open_how`` of openat2(2)."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class MountAttributes(ctypes.Structure):
    """``struct mount_attr`` of mount_setattr(2)."""

    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


class CapabilityHeader(ctypes.Structure):
    """``struct __user_cap_header_struct`` of capset(2)."""

    _fields_ = [("version", ctypes.c_uint32), ("pid", c_int)]


class CapabilityData(ctypes.Structure):
    """``struct __user_cap_data_struct``: two of them hold 64 capabilities."""

    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


class LandlockRuleset(ctypes.Structure):
    """``struct landlock_ruleset_attr`` of landlock_create_ruleset(2), as of ABI 6."""

    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class LandlockPath(ctypes.Structure):
    """``struct landlock_path_beneath_attr`` of landlock_add_rule(2)."""

    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


class FilterProgram(ctypes.Structure):
    """``struct sock_fprog``: the number of BPF instructions and their address."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", c_void_p)]


class StatFs(ctypes.Structure):
    """The beginning of ``struct statfs``: the magic number of the file system; the rest is room."""

    _fields_ = [("type", c_long), ("rest", c_long * 31)]


byref = ctypes.byref
sizeof = ctypes.sizeof
create_string_buffer = ctypes.create_string_buffer
addressof = ctypes.addressof
