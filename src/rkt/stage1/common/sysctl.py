"""Kernel parameters of a pod (isolator os/unix/sysctl): those that are its own, and no others.

A parameter belongs to a pod when it belongs to a namespace that the pod has for itself: ``net.*`` to the
network namespace, System V and POSIX IPC to the IPC namespace.  All others would change the host.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import paths

_ROOT = "/proc/sys"
_IPC = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


class Parameter:
    """``key`` as in the manifest, ``path`` below /proc/sys, ``value``; ``kind`` is ``net`` or ``ipc``."""

    __slots__ = ("key", "kind", "path", "value")

    def __init__(self, key: str, path: str, value: str, *, kind: str) -> None:
        self.key, self.path, self.value, self.kind = key, path, value, kind


def plan(values: dict[str, str], own: set[str]) -> list[Parameter]:
    """The parameters to set; ``own`` are the kinds of namespaces the pod does not share with the host.

    RktError for one that is not the pod's.
    """
    return [_parameter(key, value, own) for key, value in sorted(values.items())]


def _parameter(key: str, value: str, own: set[str]) -> Parameter:
    path = _path(key)
    name = path.replace("/", ".")
    if name in ("kernel.hostname", "kernel.domainname"):
        raise RktError(f'sysctl "{key}" is refused: the host name of a pod is that of --hostname')
    kind = "net" if name.startswith("net.") else "ipc" if name.startswith(_IPC) else ""
    if not kind:
        raise RktError(f'sysctl "{key}" is refused: it belongs to the host, not to a pod')
    if kind not in own:
        words = {"net": "network", "ipc": "IPC namespace"}
        raise RktError(f'sysctl "{key}" is refused: the pod has the {words[kind]} of the host')
    if "\0" in value:
        raise RktError(f'sysctl "{key}" is refused: its value contains a NUL')
    return Parameter(key, path, value, kind=kind)


def _path(key: str) -> str:
    """``net.ipv4.ip_forward`` or, for names with dots, ``net/ipv4/conf/eth0.1/forwarding`` (sysctl(8))."""
    first = next((letter for letter in key if letter in "./"), ".")
    path = key if first == "/" else key.translate({ord("."): "/", ord("/"): "."})
    parts = path.split("/")
    if len(parts) < 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise RktError(f'"{key}" is no name of a sysctl')
    return path


def apply(parameters: list[Parameter], kind: str) -> None:
    """Set the parameters of the namespace of this kind, which is this thread's."""
    wanted = [parameter for parameter in parameters if parameter.kind == kind]
    if not wanted:
        return
    root = os.open(_ROOT, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parameter in wanted:
            try:
                _write(root, parameter)
            except OSError as error:
                raise RktError(f'unable to set sysctl "{parameter.key}" to "{parameter.value}"') from error
    finally:
        os.close(root)


def _write(root: int, parameter: Parameter) -> None:
    fd = paths.open_beneath(root, parameter.path, os.O_WRONLY)
    try:
        if paths.filesystem_type(fd) != paths.PROC_SUPER_MAGIC:
            raise RktError(f"{_ROOT}/{parameter.path} is no file of the kernel")
        os.write(fd, parameter.value.encode() + b"\n")
    finally:
        os.close(fd)
