"""``rkt list``: a table of pods, or their JSON."""

from __future__ import annotations

from rkt.cli import pods, times
from rkt.cli.table import Table
from rkt.errors import RktError
from rkt.pod import layout, lookup, status
from rkt.pod.pod import Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.cli.call import Call

_SHORT_UUID = 8
_SHORT_ID = len("sha512-") + 12
_RULE = "----------------------------------------"


def run(call: Call) -> int:
    """Prints what can be read; pods that cannot be are reported after that, and are no failure."""
    failures: list[RktError | OSError] = []
    found = lookup.names(call.globals.dir)
    if call.flags["format"]:
        _print_json(call, found, failures)
    else:
        _print_table(call, found, failures)
    if failures:
        _report(call, failures)
    return 0


def _print_json(call: Call, found: dict[str, str], failures: list[RktError | OSError]) -> None:
    from rkt.appc import gojson

    values: list[dict[str, Any]] = []
    for uuid, directory in found.items():
        pod = _open(call, uuid, directory, failures)
        if pod is not None:
            with pod:
                try:
                    values.append(status.describe(pod))
                except (RktError, OSError) as error:
                    failures.append(error)
    indent = "\t" if call.flags["format"] == "json-pretty" else None
    call.print(gojson.dumps(values or None, indent))


def _print_table(call: Call, found: dict[str, str], failures: list[RktError | OSError]) -> None:
    full = call.flags["full"]
    headers = ["UUID", "APP", "IMAGE NAME", "STATE", "CREATED", "STARTED", "NETWORKS"]
    if full:
        headers.insert(3, "IMAGE ID")
    table = Table(() if call.flags["no-legend"] else headers)
    for uuid, directory in found.items():
        pod = _open(call, uuid, directory, failures)
        if pod is not None:
            with pod:
                try:
                    _add_rows(table, pod, full=full)
                except (RktError, OSError) as error:
                    failures.append(error)
    call.print(table.render())


def _open(call: Call, uuid: str, directory: str, failures: list[RktError | OSError]) -> Pod | None:
    """A pod that was just seen; None when it is gone, or about to be, or cannot be opened."""
    try:
        pod = Pod.open(call.globals.dir, uuid, start=directory)
    except RktError:
        return None
    except OSError as error:
        failures.append(error)
        return None
    if pod.directory in layout.LISTED_DIRECTORIES:
        return pod
    pod.close()
    return None


def _add_rows(table: Table, pod: Pod, *, full: bool) -> None:
    """The rows of one pod: the first has all, further apps have only their own cells."""
    format_time = times.exact if full else times.age
    started = status.started_ns(pod)
    last = (
        pod.state,
        format_time(status.created_ns(pod)),
        format_time(started) if started is not None else "",
        status.format_networks(status.networks(pod)),
    )
    uuid = pod.uuid if full else pod.uuid[:_SHORT_UUID]
    apps = [_app_cells(pod, app, full=full) for app in status.apps(pod)] or [("-",) * (3 if full else 2)]
    table.row(uuid, *apps[0], *last)
    for cells in apps[1:]:
        table.row("", *cells, *("",) * len(last))


def _app_cells(pod: Pod, app: dict[str, Any], *, full: bool) -> tuple[str, ...]:
    image, key = status.image_of(pod, app)
    cells = (str(app.get("name", "")), image)
    return (*cells, key[:_SHORT_ID]) if full else cells


def _report(call: Call, failures: list[RktError | OSError]) -> None:
    from rkt.appc import VERSION

    call.error(f"{len(failures)} error(s) encountered when listing pods:")
    for error in failures:
        call.error(_RULE)
        pods.report(call, error)
    for line in (_RULE, "misc:", f"  rkt's appc version: {VERSION}", ""):
        call.error(line)
