"""The interface to a stage1: which flags its ``run`` gets, by version, and where its programs are."""

from __future__ import annotations

import json
import os

import pytest

from rkt.errors import RktError, one_line
from rkt.pod.pod import Pod, create
from rkt.stage0 import dns
from rkt.stage0.interface import PREFIX, Stage1, run_arguments
from rkt.stage0.records import RunRequest

pytestmark = pytest.mark.promise("P11")


@pytest.fixture
def data(tmp_path: os.PathLike[str]) -> str:
    return os.path.join(tmp_path, "data")


def pod_with(data: str, version: str | None, *, mutable: str = "false", **entries: str) -> Pod:
    pod = create(data)
    annotations = [{"name": PREFIX + name, "value": path} for name, path in entries.items()]
    if version is not None:
        annotations.append({"name": PREFIX + "interface-version", "value": version})
    pod.make_directory("stage1")
    pod.write("stage1/manifest", json.dumps({"annotations": annotations}))
    pod.write("pod", json.dumps({"annotations": [{"name": PREFIX + "mutable", "value": mutable}]}))
    return pod


def everything() -> RunRequest:
    request = RunRequest()
    request.debug = True
    request.dns = dns.parse(["1.1.1.1"], [], [], domain="", hosts_entries=["host"])
    request.hostname = "name"
    request.insecure = frozenset(("image", "capabilities", "paths", "seccomp"))
    request.interactive = True
    request.ipc = "parent"
    request.local_config = "/etc/rkt"
    request.networks = "default,other:IP=1.2.3.4"
    return request


ALL = [
    (1, "--debug"),
    (1, "--net=default,other:IP=1.2.3.4"),
    (1, "--interactive"),
    (1, "--private-users=65536:65536"),
    (1, "--mds-token=abc"),
    (1, "--local-config=/etc/rkt"),
    (2, "--hostname=name"),
    (4, "--dns-conf-mode=resolv=stage0,hosts=host"),
    (3, "--disable-capabilities-restriction"),
    (3, "--disable-paths"),
    (3, "--disable-seccomp"),
    (6, "--ipc=parent"),
]
WARNINGS = [
    (2, "warning: --hostname option is not supported by stage1"),
    (4, "warning: --dns-conf-mode option not supported by stage1"),
    (3, "warning: --insecure-options for running pods are not supported by stage1"),
    (6, "warning: --ipc option is not supported by stage1"),
]


@pytest.mark.parametrize("version", range(1, 8))
def test_flags_and_warnings_by_version(data: str, version: int) -> None:
    said: list[str] = []
    with pod_with(data, str(version), run="/init") as pod:
        flags = run_arguments(
            Stage1(pod), everything(), private_users="65536:65536", token="abc", notify=said.append
        )
        assert flags == [flag for since, flag in ALL if since <= version] + [pod.uuid]
    assert said == [text for since, text in WARNINGS if since > version]


def test_nothing_more_than_asked_for(data: str) -> None:
    said: list[str] = []
    with pod_with(data, None, run="/init") as pod:
        flags = run_arguments(Stage1(pod), RunRequest(), private_users="", token="", notify=said.append)
        assert flags == ["--net=default", pod.uuid]
    assert said == []


def test_a_stage1_that_does_not_know_of_switches_keeps_protections_on_silently(data: str) -> None:
    request = everything()
    request.debug = False
    said: list[str] = []
    with pod_with(data, "2", run="/init") as pod:
        flags = run_arguments(Stage1(pod), request, private_users="", token="", notify=said.append)
    assert not [flag for flag in flags if flag.startswith("--disable")]
    assert not [text for text in said if "insecure" in text]


def test_mutable_pods_need_version_5(data: str) -> None:
    with pod_with(data, "5", mutable="true", run="/init") as pod:
        flags = run_arguments(Stage1(pod), RunRequest(), private_users="", token="", notify=print)
        assert flags[-2:] == ["--mutable", pod.uuid]
    with pod_with(data, "4", mutable="true", run="/init") as pod:
        stage1 = Stage1(pod)
        with pytest.raises(RktError, match="stage1 does not support mutable pods"):
            run_arguments(stage1, RunRequest(), private_users="", token="", notify=print)


@pytest.mark.parametrize("version", ["", "x", "-1", "1.0", "²"])
def test_a_version_that_is_no_number_is_refused(data: str, version: str) -> None:
    with pod_with(data, version, run="/init") as pod, pytest.raises(RktError, match="interface version"):
        Stage1(pod)


def test_a_missing_entry_point_is_named(data: str) -> None:
    with pod_with(data, "1", run="/init") as pod:
        stage1 = Stage1(pod)
        assert stage1.entry_point("run") == "/init"
        with pytest.raises(RktError, match='stage1 has no entry point "stop"'):
            stage1.entry_point("stop")


@pytest.mark.parametrize("text", ["", "[]", '{"annotations":[1]}', '{"annotations":[{"name":"x"}]}'])
def test_a_stage1_manifest_that_makes_no_sense_is_named(data: str, text: str) -> None:
    with create(data) as pod:
        pod.make_directory("stage1")
        pod.write("stage1/manifest", text)
        if text == "[]":
            text = "not an object"
        with pytest.raises(RktError, match=f"cannot read the stage1 manifest of pod {pod.uuid}"):
            Stage1(pod)


@pytest.mark.promise("P4")
def test_programs_are_looked_up_inside_the_stage1(data: str) -> None:
    with pod_with(data, "1", run="/link", stop="/up", gc="/none") as pod:
        root = os.path.join(pod.path, "stage1", "rootfs")
        os.makedirs(os.path.join(root, "bin"))
        os.symlink("/bin/sh", os.path.join(root, "link"))
        os.symlink("../../../../../../../bin/sh", os.path.join(root, "up"))
        stage1 = Stage1(pod)
        with pytest.raises(RktError) as caught:
            stage1.program("run")
        assert one_line(caught.value).startswith(
            'cannot find the stage1 entry point "run": open /link: no such'
        )
        with open(os.path.join(root, "bin", "sh"), "w"):
            pass
        assert stage1.program("run") == os.path.join(root, "bin", "sh")
        assert stage1.program("stop") == os.path.join(root, "bin", "sh")


def test_without_a_mount_programs_come_from_the_store(data: str) -> None:
    with pod_with(data, "1", stop="/stop") as pod:
        pod.write("overlay-prepared", "")
        pod.write("stage1TreeStoreID", "tree")
        os.makedirs(os.path.join(pod.path, "stage1", "rootfs"))
        tree = os.path.join(data, "cas", "tree", "tree", "rootfs")
        os.makedirs(tree)
        with open(os.path.join(tree, "stop"), "w"):
            pass
        stage1 = Stage1(pod)
        assert stage1.tree_root() == tree
        assert stage1.nearest_program("stop") == os.path.join(tree, "stop")
        own = os.path.join(pod.path, "stage1", "rootfs", "stop")
        with open(own, "w"):
            pass
        assert stage1.nearest_program("stop") == own
