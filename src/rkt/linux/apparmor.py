"""AppArmor: whether the host has it, which profiles are loaded, and starting a program under one."""

from __future__ import annotations

import os

from rkt.linux import mount
from rkt.linux.failure import named

_ENABLED = "/sys/module/apparmor/parameters/enabled"
_PROFILES = "apparmor/profiles"
_SECURITYFS = "/sys/kernel/security"
# The second is the one of all security modules, for kernels before 5.8.
_ATTRIBUTES = ("/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec")


def is_enabled(path: str = _ENABLED) -> bool:
    """Whether AppArmor is in force on this host."""
    try:
        with open(path) as file:
            return file.read().strip() == "Y"
    except FileNotFoundError:
        return False


def profiles() -> set[str]:
    """The names of the loaded profiles, child profiles as PARENT//CHILD."""
    try:
        with open(f"{_SECURITYFS}/{_PROFILES}") as file:
            return parse(file.read())
    except FileNotFoundError:
        # Not mounted, as on hosts without systemd.
        directory = mount.new_mount("securityfs")
    try:
        with open(os.open(_PROFILES, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)) as file:
            return parse(file.read())
    finally:
        os.close(directory)


def parse(text: str) -> set[str]:
    """The names in a list of lines ``NAME (MODE)``; a name may hold blanks and parentheses."""
    return {line.rpartition(" (")[0] for line in text.splitlines() if line.endswith(")")}


def change_profile_on_exec(profile: str) -> None:
    """From the next execve(2) of this thread on it is confined by the profile."""
    path = next((path for path in _ATTRIBUTES if os.path.exists(path)), _ATTRIBUTES[-1])
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, f"exec {profile}".encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise named(error, "change to AppArmor profile", profile) from None
