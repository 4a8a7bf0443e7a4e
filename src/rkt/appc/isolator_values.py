"""The values of the isolators the specification defines, by family.

Each takes the parsed JSON value in ``from_value`` and checks it; ``to_value`` gives it back in the
order of the reference's structures.
"""

from __future__ import annotations

from rkt.appc.decode import boolean, integer, optional, record, string, string_map, strings
from rkt.appc.errors import AppcError
from rkt.appc.quantity import Quantity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.appc.decode import Members

_ERRNO_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class CapabilitySet:
    """The capabilities to retain or to remove; names are not checked against a kernel's list here."""

    __slots__ = ("set",)

    def __init__(self, set: list[str] | None = None) -> None:
        self.set = [] if set is None else set

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> CapabilitySet:
        return record(cls(), _SET_MEMBERS, value, path, check=cls.check)

    def check(self) -> None:
        if not self.set:
            raise AppcError("set must be non-empty", "set")

    def to_value(self) -> dict[str, Any]:
        return {"set": self.set}


_SET_MEMBERS: Members = {"set": ("set", strings)}


class SeccompSet:
    """System calls (or ``@scope/name`` wildcards) to retain or remove; ``errno`` empty means SIGSYS."""

    __slots__ = ("errno", "set")

    def __init__(self, set: list[str] | None = None, errno: str = "") -> None:
        self.set = [] if set is None else set
        self.errno = errno

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> SeccompSet:
        return record(cls(), _SECCOMP_MEMBERS, value, path, check=cls.check)

    def check(self) -> None:
        if not self.set:
            raise AppcError("set must be non-empty", "set")
        if self.errno and not (self.errno[0] == "E" and _ERRNO_LETTERS.issuperset(self.errno)):
            raise AppcError("errno must be an upper case error name like EPERM", "errno")

    def to_value(self) -> dict[str, Any]:
        return {"set": self.set, "errno": self.errno}


_SECCOMP_MEMBERS: Members = {"set": ("set", strings), "errno": ("errno", string)}


class SELinuxContext:
    """The parts of an SELinux context."""

    __slots__ = ("level", "role", "type", "user")

    def __init__(self, user: str = "", role: str = "", type: str = "", level: str = "") -> None:
        self.user = user
        self.role = role
        self.type = type
        self.level = level

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> SELinuxContext:
        return record(cls(), _SELINUX_MEMBERS, value, path, check=cls.check)

    def check(self) -> None:
        for name in ("user", "role", "type", "level"):
            part: str = getattr(self, name)
            if not part:
                raise AppcError("must not be empty", name)
            if name != "level" and ":" in part:
                raise AppcError(f'"{part}" must not contain a colon', name)

    def to_value(self) -> dict[str, Any]:
        return {"user": self.user, "role": self.role, "type": self.type, "level": self.level}

    def __str__(self) -> str:
        return f"{self.user}:{self.role}:{self.type}:{self.level}"


_SELINUX_MEMBERS: Members = {name: (name, string) for name in ("user", "role", "type", "level")}


class AppArmorProfile:
    """The name of an AppArmor profile that must be loaded on the host."""

    __slots__ = ("profile",)

    def __init__(self, profile: str = "") -> None:
        self.profile = profile

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> AppArmorProfile:
        return record(cls(), _APPARMOR_MEMBERS, value, path, check=cls.check)

    def check(self) -> None:
        if not self.profile:
            raise AppcError("profile must not be empty", "profile")

    def to_value(self) -> dict[str, Any]:
        return {"profile": self.profile}


_APPARMOR_MEMBERS: Members = {"profile": ("profile", string)}


class Resource:
    """An amount to reserve and a bound; None where not given (``request`` then equals ``limit``)."""

    __slots__ = ("default", "limit", "request")

    def __init__(
        self, *, default: bool = False, request: Quantity | None = None, limit: Quantity | None = None
    ) -> None:
        self.default = default
        self.request = request
        self.limit = limit

    @classmethod
    def own(cls, value: Any, path: str = "") -> Resource:
        """A resource of one app: never the default of all devices."""
        return record(cls(), _RESOURCE_MEMBERS, value, path, check=cls._check_own)

    def _check_own(self) -> None:
        if self.default:
            raise AppcError("default must be false", "default")

    @classmethod
    def shared(cls, value: Any, path: str = "") -> Resource:
        """A bandwidth: only as the default of all devices, and only bounded."""
        return record(cls(), _RESOURCE_MEMBERS, value, path, check=cls._check_shared)

    def _check_shared(self) -> None:
        if not self.default:
            raise AppcError("default must be true", "default")
        if self.request is not None:
            raise AppcError("request not supported by this resource, must be empty", "request")

    def to_value(self) -> dict[str, Any]:
        return {
            "default": self.default,
            "request": None if self.request is None else str(self.request),
            "limit": None if self.limit is None else str(self.limit),
        }


_RESOURCE_MEMBERS: Members = {
    "default": ("default", boolean),
    "request": ("request", optional(Quantity.from_value)),
    "limit": ("limit", optional(Quantity.from_value)),
}


def between(least: int, most: int) -> Callable[[Any], int]:
    """A decoder of integers in a range."""

    def decode_between(value: Any) -> int:
        number = integer(value)
        if not least <= number <= most:
            raise AppcError(f"{number} must be between {least} and {most}")
        return number

    return decode_between


cpu_shares = between(2, 262144)
oom_score_adj = between(-1000, 1000)
no_new_privileges = boolean
sysctl = string_map
