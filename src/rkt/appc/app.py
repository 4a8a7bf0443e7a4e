"""What to run: the ``app`` object of image and pod manifests."""

from __future__ import annotations

from rkt.appc import environment, isolators
from rkt.appc.decode import (
    Absent,
    encoded,
    integer,
    items,
    record,
    string,
    string_map,
    strings,
    under,
)
from rkt.appc.errors import AppcError
from rkt.appc.port import Port
from rkt.appc.volume import MountPoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.decode import Members
    from rkt.appc.environment import EnvironmentVariable
    from rkt.appc.isolators import Isolator

EVENTS = ("pre-start", "post-stop")


class EventHandler:
    """A command that runs before or after the app's own; ``name`` is one of ``EVENTS``."""

    __slots__ = ("exec", "name")

    def __init__(self, name: str = "", exec: list[str] | None = None) -> None:
        self.name = name
        self.exec = Absent() if exec is None else exec

    def __repr__(self) -> str:
        return f"EventHandler({self.name!r}, {self.exec!r})"

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> EventHandler:
        return record(cls(), _HANDLER_MEMBERS, value, path, check=cls.check)

    def check(self) -> None:
        if self.name not in EVENTS:
            raise AppcError(f'bad eventHandler name "{self.name}": use pre-start or post-stop', "name")

    def to_value(self) -> dict[str, Any]:
        self.check()
        return {"name": self.name, "exec": encoded(self.exec)}


_HANDLER_MEMBERS: Members = {"name": ("name", string), "exec": ("exec", strings)}


class App:
    """What to run and under which conditions.

    ``user`` and ``group`` are a name, digits or the absolute path of a file of the image whose owner is
    meant.  ``working_directory`` is empty if not set.
    """

    __slots__ = (
        "environment",
        "event_handlers",
        "exec",
        "group",
        "isolators",
        "mount_points",
        "ports",
        "supplementary_gids",
        "user",
        "user_annotations",
        "user_labels",
        "working_directory",
    )

    def __init__(
        self,
        *,
        exec: list[str] | None = None,
        event_handlers: list[EventHandler] | None = None,
        user: str = "",
        group: str = "",
        supplementary_gids: list[int] | None = None,
        working_directory: str = "",
        environment: list[EnvironmentVariable] | None = None,
        mount_points: list[MountPoint] | None = None,
        ports: list[Port] | None = None,
        isolators: list[Isolator] | None = None,
        user_annotations: dict[str, str] | None = None,
        user_labels: dict[str, str] | None = None,
    ) -> None:
        self.exec: list[str] = Absent() if exec is None else exec
        self.event_handlers = [] if event_handlers is None else event_handlers
        self.user = user
        self.group = group
        self.supplementary_gids = [] if supplementary_gids is None else supplementary_gids
        self.working_directory = working_directory
        self.environment = [] if environment is None else environment
        self.mount_points = [] if mount_points is None else mount_points
        self.ports = [] if ports is None else ports
        self.isolators = [] if isolators is None else isolators
        self.user_annotations = {} if user_annotations is None else user_annotations
        self.user_labels = {} if user_labels is None else user_labels

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> App:
        return record(cls(), _MEMBERS, value, path, check=cls.check)

    def check(self) -> None:
        """The rules that span members; each member was checked when it was read."""
        if not self.user:
            raise AppcError("user is required", "user")
        if not self.group:
            raise AppcError("group is required", "group")
        if self.working_directory and not self.working_directory.startswith("/"):
            raise AppcError("workingDirectory must be an absolute path", "workingDirectory")
        seen = set()
        for position, handler in enumerate(self.event_handlers):
            if handler.name in seen:
                raise AppcError(
                    f'only one eventHandler of name "{handler.name}" allowed', "eventHandlers", position
                )
            seen.add(handler.name)

    def to_value(self) -> dict[str, Any]:
        """The JSON value in the reference's order; raises ``AppcError`` if the app breaks a rule."""
        self.check()
        under("isolators", lambda: isolators.check(self.isolators))
        made: dict[str, Any] = {"exec": encoded(self.exec)}
        if self.event_handlers:
            made["eventHandlers"] = under("eventHandlers", lambda: encoded(self.event_handlers))
        made["user"] = self.user
        made["group"] = self.group
        if self.supplementary_gids:
            made["supplementaryGIDs"] = list(self.supplementary_gids)
        if self.working_directory:
            made["workingDirectory"] = self.working_directory
        if self.environment:
            made["environment"] = under("environment", lambda: environment.encode(self.environment))
        if self.mount_points:
            made["mountPoints"] = under("mountPoints", lambda: encoded(self.mount_points))
        if self.ports:
            made["ports"] = under("ports", lambda: encoded(self.ports))
        if self.isolators:
            made["isolators"] = under("isolators", lambda: isolators.encode(self.isolators))
        if self.user_annotations:
            made["userAnnotations"] = dict(sorted(self.user_annotations.items()))
        if self.user_labels:
            made["userLabels"] = dict(sorted(self.user_labels.items()))
        return made


_MEMBERS: Members = {
    "exec": ("exec", strings),
    "eventHandlers": ("event_handlers", items(EventHandler.from_value)),
    "user": ("user", string),
    "group": ("group", string),
    "supplementaryGIDs": ("supplementary_gids", items(integer)),
    "workingDirectory": ("working_directory", string),
    "environment": ("environment", environment.decode),
    "mountPoints": ("mount_points", items(MountPoint.from_value)),
    "ports": ("ports", items(Port.from_value)),
    "isolators": ("isolators", isolators.decode_of_app),
    "userAnnotations": ("user_annotations", string_map),
    "userLabels": ("user_labels", string_map),
}
