"""SELinux: whether the host has it, its container contexts, and starting a program in a context."""

from __future__ import annotations

import os

from rkt.linux.failure import named

FILESYSTEM = "/sys/fs/selinux"
_CONFIGURATION = "/etc/selinux"
_ATTRIBUTE = "/proc/thread-self/attr/exec"
CATEGORIES = 1024
"""The number of categories a multi-category policy has."""


def is_enabled(filesystem: str = FILESYSTEM) -> bool:
    """Whether a policy is loaded on this host, enforcing or not."""
    return os.path.exists(f"{filesystem}/enforce")


def is_valid(context: str, filesystem: str = FILESYSTEM) -> bool:
    """Whether the loaded policy has a context of this user, role, type and level."""
    fd = os.open(f"{filesystem}/context", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, context.encode() + b"\0")
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def context_of(pid: int) -> str:
    """The context of a process."""
    with open(f"/proc/{pid}/attr/current", "rb") as file:
        return file.read().rstrip(b"\0\n").decode()


def container_contexts(configuration: str = _CONFIGURATION) -> dict[str, str]:
    """The contexts the policy has for containers (``lxc_contexts``): ``process``, ``file``, ...

    Empty when the policy has none.
    """
    policy = _value(f"{configuration}/config", "SELINUXTYPE")
    found: dict[str, str] = {}
    if not policy or "/" in policy:
        return found
    try:
        with open(f"{configuration}/{policy}/contexts/lxc_contexts") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith("#"):
            found[name.strip()] = value.strip().strip('"')
    return found


def _value(path: str, name: str) -> str:
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key.strip() == name:
            return value.strip().strip('"')
    return ""


def with_categories(context: str, categories: tuple[int, int]) -> str:
    """The context with these two categories as its level's: ``s0:c12,c345``."""
    user, role, kind, *level = context.split(":")
    sensitivity = (level[0] if level else "s0").partition("-")[0]
    low, high = sorted(categories)
    return f"{user}:{role}:{kind}:{sensitivity}:c{low},c{high}"


def change_context_on_exec(context: str) -> None:
    """The context of this thread from its next execve(2) on."""
    try:
        fd = os.open(_ATTRIBUTE, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, context.encode() + b"\0")
        finally:
            os.close(fd)
    except OSError as error:
        raise named(error, "change to SELinux context", context) from None
