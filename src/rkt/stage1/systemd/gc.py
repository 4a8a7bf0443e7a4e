"""Entry point ``gc``: takes down what ``run`` set up outside the pod's directory.

Works however the pod ended, also after a reboot and when stage1's root is not mounted any more; may
be called again.  stage0 unmounts and removes the pod's directory itself.
"""

from __future__ import annotations

import os
import sys

from rkt.appc import uuid as appc_uuid
from rkt.errors import RktError, one_line
from rkt.linux import cgroup, files
from rkt.network import lifecycle
from rkt.stage1.common import flags as command_line
from rkt.stage1.systemd import cgroups, machine

_JOURNALS = "/var/log/journal"


def main(argv: list[str]) -> int:
    """0 when nothing is left."""
    try:
        values, arguments, _ = command_line.parse(argv[1:], command_line.GC)
        if len(arguments) != 1:
            raise RktError("exactly one pod UUID is expected")
        faults = collect(os.getcwd(), appc_uuid.parse(arguments[0]), str(values["local-config"]))
    except (RktError, OSError) as error:
        faults = [error]
    for fault in faults:
        sys.stderr.write(f"gc: {one_line(fault)}\n")
    return 254 if faults else 0


def collect(directory: str, uuid: str, local_config: str) -> list[Exception]:
    """Take down network, cgroups and journal link of a pod; what could not be, as errors."""
    faults: list[Exception] = []
    faults.extend(lifecycle.teardown(directory, uuid, local_config))
    faults.extend(cgroups.leave(directory))
    try:
        _remove_scope(directory, uuid)
        _remove_journal(uuid)
    except (RktError, OSError) as error:
        faults.append(error)
    return faults


def _remove_scope(directory: str, uuid: str) -> None:
    """What machined's scope, or a service's cgroup, may have kept: only a cgroup named after this pod."""
    try:
        with open(os.path.join(directory, "subcgroup")) as file:
            path = file.read().strip()
    except FileNotFoundError:
        return
    if path.rpartition("/")[2] == machine.scope_name(f"rkt-{uuid}"):
        cgroup.remove(path)


def _remove_journal(uuid: str) -> None:
    """``--link-journal`` leaves a link in the host's journal directory, named after the machine-id."""
    path = os.path.join(_JOURNALS, uuid.replace("-", ""))
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.isdir(path):
        files.remove_tree(path, missing_ok=True)
