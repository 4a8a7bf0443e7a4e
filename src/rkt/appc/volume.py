"""Volumes of a pod, the places apps want them at, and the mounts that join the two."""

from __future__ import annotations

from rkt.appc.decode import boolean, integer, optional, record, string, under
from rkt.appc.errors import AppcError
from rkt.appc.flags import parse_bool, parse_integer, split_flag
from rkt.appc.identifiers import check_name, decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.decode import Members

DEFAULT_MODE = "0755"


class Volume:
    """A directory of the host or a new one, shared by the apps of a pod.

    ``read_only`` and ``recursive`` are None where nothing was said.  ``mode`` (octal digits), ``uid`` and
    ``gid`` belong to ``kind`` "empty" and have their defaults there, else they are None.
    """

    __slots__ = ("gid", "kind", "mode", "name", "read_only", "recursive", "source", "uid")

    def __init__(
        self,
        name: str = "",
        kind: str = "",
        source: str = "",
        *,
        read_only: bool | None = None,
        recursive: bool | None = None,
        mode: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.source = source
        self.read_only = read_only
        self.recursive = recursive
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self._set_defaults()

    def __repr__(self) -> str:
        return f"Volume({str(self)!r})"

    def __str__(self) -> str:
        """The flag that gives this volume, defaults left out."""
        words = [self.name, f"kind={self.kind}"]
        if self.source:
            words.append(f"source={self.source}")
        if self.read_only is not None:
            words.append(f"readOnly={'true' if self.read_only else 'false'}")
        if self.recursive is not None:
            words.append(f"recursive={'true' if self.recursive else 'false'}")
        if self.kind == "empty":
            if self.mode != DEFAULT_MODE:
                words.append(f"mode={self.mode}")
            if self.uid:
                words.append(f"uid={self.uid}")
            if self.gid:
                words.append(f"gid={self.gid}")
        return ",".join(words)

    def _complete(self) -> None:
        self._set_defaults()
        self.check()

    def _set_defaults(self) -> None:
        if self.kind == "empty":
            if self.mode is None:
                self.mode = DEFAULT_MODE
            if self.uid is None:
                self.uid = 0
            if self.gid is None:
                self.gid = 0

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Volume:
        return record(cls(), _VOLUME_MEMBERS, value, path, check=cls._complete)

    @classmethod
    def from_flag(cls, text: str) -> Volume:
        """Read the flag ``--volume``.

        ``NAME,kind=host,source=/P[,readOnly=B][,recursive=B]`` or
        ``NAME,kind=empty[,readOnly=B][,mode=M][,uid=N][,gid=N]``.
        """
        volume = cls()
        for key, value in split_flag(text).items():
            if key == "name":
                volume.name = check_name(value)
            elif key == "kind":
                volume.kind = value
            elif key == "source":
                volume.source = value
            elif key == "readOnly":
                volume.read_only = parse_bool(value)
            elif key == "recursive":
                volume.recursive = parse_bool(value)
            elif key == "mode":
                volume.mode = value
            elif key == "uid":
                volume.uid = parse_integer(value)
            elif key == "gid":
                volume.gid = parse_integer(value)
            else:
                raise AppcError(f'unknown volume parameter "{key}"')
        volume._complete()
        return volume

    def check(self) -> None:
        if not self.name:
            raise AppcError("name must be set", "name")
        if self.kind == "empty":
            if self.source:
                raise AppcError("source for empty volume must be empty", "source")
        elif self.kind == "host":
            if not self.source:
                raise AppcError("source for host volume cannot be empty", "source")
            if not self.source.startswith("/"):
                raise AppcError("source for host volume must be absolute path", "source")
            for name in ("mode", "uid", "gid"):
                if getattr(self, name) is not None:
                    raise AppcError(f"{name} for host volume cannot be set", name)
        else:
            raise AppcError('unrecognized volume kind: should be one of "empty", "host"', "kind")

    def to_value(self) -> dict[str, Any]:
        self.check()
        made: dict[str, Any] = {"name": under("name", lambda: check_name(self.name)), "kind": self.kind}
        if self.source:
            made["source"] = self.source
        for name, value in (
            ("readOnly", self.read_only),
            ("recursive", self.recursive),
            ("mode", self.mode),
            ("uid", self.uid),
            ("gid", self.gid),
        ):
            if value is not None:
                made[name] = value
        return made


_VOLUME_MEMBERS: Members = {
    "name": ("name", decode_name),
    "kind": ("kind", string),
    "source": ("source", string),
    "readOnly": ("read_only", optional(boolean)),
    "recursive": ("recursive", optional(boolean)),
    "mode": ("mode", optional(string)),
    "uid": ("uid", optional(integer)),
    "gid": ("gid", optional(integer)),
}


class MountPoint:
    """A place in an app's root file system where a volume of the same name belongs."""

    __slots__ = ("name", "path", "read_only")

    def __init__(self, name: str = "", path: str = "", *, read_only: bool = False) -> None:
        self.name = name
        self.path = path
        self.read_only = read_only

    def __repr__(self) -> str:
        return f"MountPoint({self.name!r}, {self.path!r}, read_only={self.read_only})"

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> MountPoint:
        return record(cls(), _MOUNT_POINT_MEMBERS, value, path)

    @classmethod
    def from_flag(cls, text: str) -> MountPoint:
        """``NAME,path=/P[,readOnly=B]``."""
        point = cls()
        for key, value in split_flag(text).items():
            if key == "name":
                point.name = check_name(value)
            elif key == "path":
                point.path = value
            elif key == "readOnly":
                point.read_only = parse_bool(value)
            else:
                raise AppcError(f'unknown mount point parameter "{key}"')
        if not point.path:
            raise AppcError("path must be set", "path")
        return point

    def to_value(self) -> dict[str, Any]:
        made: dict[str, Any] = {"name": under("name", lambda: check_name(self.name)), "path": self.path}
        if self.read_only:
            made["readOnly"] = True
        return made


_MOUNT_POINT_MEMBERS: Members = {
    "name": ("name", decode_name),
    "path": ("path", string),
    "readOnly": ("read_only", boolean),
}


class Mount:
    """A volume of the pod (or ``app_volume`` itself) at ``path`` in an app."""

    __slots__ = ("app_volume", "path", "volume")

    def __init__(self, volume: str = "", path: str = "", *, app_volume: Volume | None = None) -> None:
        self.volume = volume
        self.path = path
        self.app_volume = app_volume

    def __repr__(self) -> str:
        return f"Mount({self.volume!r}, {self.path!r})"

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Mount:
        return record(cls(), _MOUNT_MEMBERS, value, path)

    @classmethod
    def from_flag(cls, text: str) -> Mount:
        """``volume=NAME,target=/P`` (the flag ``--mount``)."""
        from rkt.appc.flags import split_pairs

        mount = cls()
        for key, value in split_pairs(text).items():
            if key == "volume":
                mount.volume = check_name(value)
            elif key == "target":
                mount.path = value
            else:
                raise AppcError(f'unknown mount parameter "{key}"')
        mount.check()
        return mount

    def check(self) -> None:
        if not self.volume:
            raise AppcError("volume must be set", "volume")
        if not self.path:
            raise AppcError("path must be set", "path")

    def to_value(self) -> dict[str, Any]:
        made: dict[str, Any] = {"volume": under("volume", lambda: check_name(self.volume)), "path": self.path}
        if self.app_volume is not None:
            made["appVolume"] = under("appVolume", self.app_volume.to_value)
        return made


_MOUNT_MEMBERS: Members = {
    "volume": ("volume", decode_name),
    "path": ("path", string),
    "appVolume": ("app_volume", optional(Volume.from_value)),
}
