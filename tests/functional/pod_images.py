"""A stage1 image of a few lines of shell, as anybody may write one, for the tests of stage0.

``run`` records what it was given, then runs each app in turn in its root by chroot, as far as it can without
namespaces, and stores exit codes; ``gc``, ``stop`` and ``enter`` record that they were called.
"""

from __future__ import annotations

import os
from typing import Any

from support import aci

PREFIX = "coreos.com/rkt/stage1/"

RUN = """#!/bin/sh
printf '%s\\n' "$@" > run-arguments
env > run-environment
ls -l /proc/self/fd > run-fds
echo "$0" > run-program
pwd > run-directory
for uuid; do :; done
echo $$ > pid.new && mv pid.new pid
ln -sfn ready stage1/rootfs/rkt/supervisor-status
trap 'exit 143' TERM
code=0
for dir in stage1/rootfs/opt/stage2/*; do
    app=${dir##*/}
    script=$dir/rootfs/script
    if [ -f "$script" ]; then
        chroot "$dir/rootfs" /bin/busybox sh /script; status=$?
        echo $status > "stage1/rootfs/rkt/status/$app"
        [ $code -ne 0 ] || code=$status
    fi
done
exit $code
"""

GC = """#!/bin/sh
printf '%s\\n' "$@" >> ${RKT_TEST_RECORD:-/dev/null}
pwd >> ${RKT_TEST_RECORD:-/dev/null}
exit ${RKT_TEST_GC_STATUS:-0}
"""

STOP = """#!/bin/sh
signal=TERM
[ "$1" = --force ] && signal=KILL
pid=$(cat pid)
kill -$signal $pid $(cat /proc/$pid/task/$pid/children)
"""

ENTER = """#!/bin/sh
app=${2#--appname=}
shift 3
exec chroot "stage1/rootfs/opt/stage2/$app/rootfs" "$@"
"""

SCRIPTS = {"run": RUN, "gc": GC, "stop": STOP, "enter": ENTER}


def stage1(
    path: str, *, version: str | None = "6", name: str = "example.com/stage1-sh", **scripts: str
) -> str:
    """Write the image and return its path; ``scripts`` replace some of the programs."""
    programs = {**SCRIPTS, **scripts}
    annotations = [{"name": PREFIX + operation, "value": "/" + operation} for operation in programs]
    if version is not None:
        annotations.append({"name": PREFIX + "interface-version", "value": version})
    entries = [aci.directory("etc"), aci.Entry("etc/hosts-fallback", b"127.0.0.1 localhost\n")]
    entries += [aci.Entry(operation, text.encode(), mode=0o755) for operation, text in programs.items()]
    return aci.build(path, aci.manifest(name, app=None, annotations=annotations), entries)


def app(path: str, script: str, name: str = "example.com/box", **members: Any) -> str:
    """An image of busybox and a script, which the stage1 of these tests runs."""
    return aci.busybox(path, name, entries=[aci.Entry("script", script.encode(), mode=0o755)], **members)


def pod_directory(data: str, uuid: str) -> str:
    """Where the pod is now."""
    for directory in ("embryo", "prepare", "prepared", "run", "exited-garbage", "garbage"):
        path = os.path.join(data, "pods", directory, uuid)
        if os.path.isdir(path):
            return path
    raise AssertionError(f"pod {uuid} is nowhere")


def lines(data: str, uuid: str, name: str) -> list[str]:
    """The lines of a file in the pod's directory."""
    with open(os.path.join(pod_directory(data, uuid), name)) as file:
        return file.read().splitlines()
