"""``rkt status``: what state a pod is in, optionally once it has ended or is ready."""

from __future__ import annotations

import time

from rkt.cli import pods, times
from rkt.errors import RktError
from rkt.pod import state, status
from rkt.pod.pod import Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.cli.call import Call

_POLL_SECONDS = 0.1
_WITH_NETWORKS = (state.RUNNING, state.EXITED)
_WITH_PROCESS = (state.RUNNING, *state.ENDED)
_EXITED = (state.EXITED, state.EXITED_GARBAGE)


def run(call: Call) -> int:
    try:
        words = pods.uuids(call)
    except pods.UUIDFileError as error:
        pods.report(call, error)
        return 1
    if words is None or len(words) != 1:
        return call.usage()
    pod = pods.find(call, words[0])
    try:
        if call.flags["wait"]:
            pod = _wait(pod, call.flags["wait"], _has_ended, "finish")
        if call.flags["wait-ready"]:
            pod = _wait(pod, call.flags["wait-ready"], _is_ready, "be ready")
        _print(call, pod)
        return _check_network(call, pod) if call.flags["check-network"] else 0
    finally:
        pod.close()


def _wait(pod: Pod, limit: int, done: Callable[[Pod], bool], what: str) -> Pod:
    """Look at the pod every 100 ms until ``done``; ``limit`` in nanoseconds, negative for ever.

    Returns the pod as it is then.  RktError ``error waiting for pod to WHAT``.
    """
    deadline = time.monotonic() + limit / 1e9 if limit > 0 else None
    try:
        while not done(pod):
            if deadline is not None and time.monotonic() >= deadline:
                raise RktError("time limit exceeded")
            left = _POLL_SECONDS if deadline is None else min(_POLL_SECONDS, deadline - time.monotonic())
            time.sleep(max(left, 0))
            again = Pod.open(pod.data_dir, pod.uuid, start=pod.directory)
            pod.close()
            pod = again
    except RktError as error:
        pod.close()
        raise RktError(f"error waiting for pod to {what}") from error
    return pod


def _has_ended(pod: Pod) -> bool:
    return pod.state in state.ENDED or pod.state == state.GARBAGE


def _is_ready(pod: Pod) -> bool:
    if pod.state in _WITH_PROCESS and status.is_ready(pod):
        return True
    if _has_ended(pod):
        raise RktError(f'pod "{pod.uuid}" has ended before it was ready')
    return False


def _check_network(call: Call, pod: Pod) -> int:
    """A line per network, ``network-NAME=ok`` or ``failed`` (not in JSON); 254 if one failed, and why."""
    from rkt.network.check import check

    if pod.state != state.RUNNING:
        raise RktError(f'pod "{pod.uuid}" is not running: its network cannot be checked')
    code = 0
    for name, fault in check(pod.path, pod.uuid, call.globals.local_config):
        if not call.flags["format"]:
            call.print(f"network-{name}={'failed' if fault else 'ok'}")
        if fault is not None:
            pods.report(call, fault)
            code = 254
    return code


def _print(call: Call, pod: Pod) -> None:
    if call.flags["format"]:
        from rkt.appc import gojson

        indent = "\t" if call.flags["format"] == "json-pretty" else None
        call.print(gojson.dumps(_described(call, pod), indent))
        return
    created, started = status.created_ns(pod), status.started_ns(pod)
    call.print(f"state={pod.state}")
    if created is not None:
        call.print(f"created={times.exact(created)}")
    if started is not None:
        call.print(f"started={times.exact(started)}")
    if pod.state in _WITH_NETWORKS:
        call.print(f"networks={status.format_networks(status.networks(pod))}")
    if pod.state in _WITH_PROCESS:
        _print_process(call, pod)
    if call.flags["verified"]:
        for app in status.apps(pod):
            name = str(app.get("name", ""))
            call.print(f"verified-{name}={' '.join(status.verification(pod, name)).strip()}")


def _described(call: Call, pod: Pod) -> dict[str, Any]:
    """The pod as an object; scripts know its members, so that others are there for the asking only."""
    value = status.describe(pod)
    if call.flags["verified"]:
        for app in value.get("apps", []):
            app["verified"], app["verified_by"] = status.verification(pod, app["name"])
    return value


def _print_process(call: Call, pod: Pod) -> None:
    pid = status.pid(pod)
    if pid is not None:
        call.print(f"pid={pid}")
    call.print(f"exited={'true' if pod.state in _EXITED else 'false'}")
    if pod.state != state.RUNNING:
        for app in status.apps(pod):
            name = str(app.get("name", ""))
            code = status.exit_code(pod, name)
            if code is not None:
                call.print(f"app-{name}={code}")
