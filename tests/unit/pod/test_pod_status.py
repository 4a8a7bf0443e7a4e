"""What a pod says about itself: compared with what rkt 1.30 printed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from rkt.errors import RktError
from rkt.pod import process, state, status
from rkt.pod.pod import Pod, make_directories

UUID = "43a43d8a-bd7e-4069-94e1-648f49b72985"
TREE = "deps-sha512-" + "ab" * 32
IMAGE = "sha512-8c5fe47b33fb6a86fc48a0fbb5de31400486b8286c730f46e622bab85929ea0f"
CREATED, STARTED = 1795454146862144832, 1795454147497661523
NETWORK = {
    "netName": "default",
    "netConf": "net/99-default.conf",
    "pluginPath": "stage1/rootfs/usr/lib/rkt/plugins/net/ptp",
    "ifName": "eth0",
    "ip": "172.16.28.3",
    "args": "",
    "mask": "255.255.255.0",
}
MANIFEST: dict[str, Any] = {
    "acVersion": "1.30.0",
    "acKind": "PodManifest",
    "apps": [
        {
            "name": "one",
            "image": {
                "name": "bar.example/box",
                "id": IMAGE,
                "labels": [{"name": "version", "value": "1"}, {"name": "os", "value": "linux"}],
            },
            "app": {"exec": ["/bin/sleep", "6"], "user": "0", "group": "0"},
        }
    ],
    "volumes": None,
    "isolators": None,
    "annotations": [{"name": "coreos.com/rkt/stage1/mutable", "value": "false"}],
    "ports": [],
}


class Maker:
    """A pod's directory as a stage1 has left it."""

    def __init__(self, data: str) -> None:
        self.data = data
        make_directories(data)
        self.path = os.path.join(data, "pods", "run", UUID)
        os.mkdir(self.path)
        self.write("pod", json.dumps(MANIFEST))
        self.write("pod-created", "", CREATED)
        self.write("ppid", "27251\n", STARTED)
        self.write("net-info.json", json.dumps([NETWORK]))
        self.write("overlay-prepared", "")
        self.write("stage1TreeStoreID", TREE)
        self.status = os.path.join(self.path, "overlay", TREE, "upper", "rkt", "status")
        os.makedirs(self.status)

    def write(self, name: str, text: str, mtime: int | None = None) -> None:
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        if mtime is not None:
            os.utime(path, ns=(mtime, mtime))

    def open(self) -> Pod:
        return Pod.open(self.data, UUID)


@pytest.fixture
def made(tmp_path: os.PathLike[str]) -> Maker:
    return Maker(os.path.join(tmp_path, "data"))


@pytest.fixture
def running(made: Maker) -> Iterator[Maker]:
    import fcntl

    fd = os.open(made.path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield made
    os.close(fd)


APP = {"name": "one", "state": "running", "created_at": CREATED, "started_at": STARTED, "image_id": IMAGE}


def test_json_of_a_running_pod(running: Maker) -> None:
    from rkt.appc import gojson

    with running.open() as pod:
        text = gojson.dumps(status.describe(pod))
    # Recorded from rkt 1.30.
    assert text == (
        '{"name":"43a43d8a-bd7e-4069-94e1-648f49b72985","state":"running","networks":[{"netName":"default",'
        '"netConf":"net/99-default.conf","pluginPath":"stage1/rootfs/usr/lib/rkt/plugins/net/ptp","ifName":"eth0",'
        '"ip":"172.16.28.3","args":"","mask":"255.255.255.0"}],"app_names":["one"],"apps":[{"name":"one",'
        '"state":"running","created_at":1795454146862144832,"started_at":1795454147497661523,"image_id":'
        '"sha512-8c5fe47b33fb6a86fc48a0fbb5de31400486b8286c730f46e622bab85929ea0f"}],"created_at":1795454146,'
        '"started_at":1795454147}'
    )


def test_json_of_an_exited_pod(made: Maker) -> None:
    made.write(f"overlay/{TREE}/upper/rkt/status/one", "0\n")
    with made.open() as pod:
        value = status.describe(pod)
    assert list(value) == ["name", "state", "networks", "app_names", "apps", "created_at", "started_at"]
    app = {**APP, "state": "exited", "exit_code": 0}
    assert value["apps"] == [app]
    assert list(value["apps"][0]) == ["name", "state", "created_at", "started_at", "exit_code", "image_id"]


def test_an_app_that_has_ended_in_a_running_pod(running: Maker) -> None:
    running.write(f"overlay/{TREE}/upper/rkt/status/one", "5")
    with running.open() as pod:
        assert status.describe(pod)["apps"] == [{**APP, "state": "exited", "exit_code": 5}]


def test_a_marked_pod_has_no_networks_but_a_time_of_its_end(made: Maker) -> None:
    with made.open() as pod:
        pod.to_exited_garbage()
    with made.open() as pod:
        value = status.describe(pod)
        finished = os.stat(pod.path).st_ctime_ns
    assert value["state"] == "exited garbage"
    assert "networks" not in value
    assert value["apps"][0]["finished_at"] == finished


def test_a_prepared_pod(made: Maker) -> None:
    os.unlink(os.path.join(made.path, "ppid"))
    os.rename(made.path, os.path.join(made.data, "pods", "prepared", UUID))
    with made.open() as pod:
        value = status.describe(pod)
    assert value["apps"] == [{"name": "one", "state": "created", "created_at": CREATED, "image_id": IMAGE}]
    assert "started_at" not in value
    assert "networks" not in value


def test_a_pod_that_is_being_prepared_has_a_time_but_no_apps(made: Maker) -> None:
    os.unlink(os.path.join(made.path, "pod"))
    os.unlink(os.path.join(made.path, "ppid"))
    os.rename(made.path, os.path.join(made.data, "pods", "prepare", UUID))
    with made.open() as pod:
        assert status.describe(pod) == {
            "name": UUID,
            "state": "aborted prepare",
            "created_at": CREATED // 10**9,
        }


def test_mounts_annotations_and_labels(made: Maker) -> None:
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["volumes"] = [{"name": "data", "kind": "host", "source": "/srv", "readOnly": True}]
    manifest["apps"][0]["mounts"] = [
        {"volume": "data", "path": "/data"},
        {"volume": "own", "path": "/own", "appVolume": {"name": "own", "kind": "host", "source": "/own"}},
        {"volume": "empty", "path": "/empty"},
    ]
    manifest["apps"][0]["app"]["userLabels"] = {"b": "2", "a": "1"}
    manifest["userAnnotations"] = {"x": "y"}
    made.write("pod", json.dumps(manifest))
    with made.open() as pod:
        value = status.describe(pod)
    assert value["apps"][0]["mounts"] == [
        {"name": "data", "container_path": "/data", "host_path": "/srv", "read_only": True},
        {"name": "own", "container_path": "/own", "host_path": "/own", "read_only": False},
        {"name": "empty", "container_path": "/empty", "host_path": "", "read_only": False},
    ]
    assert list(value["apps"][0]["user_labels"].items()) == [("a", "1"), ("b", "2")]
    assert value["user_annotations"] == {"x": "y"}


@pytest.mark.parametrize("text", ["", "x", "0x1", "99" * 40, "1 2"])
def test_a_status_that_is_no_number_is_no_status(made: Maker, text: str) -> None:
    made.write(f"overlay/{TREE}/upper/rkt/status/one", text)
    with made.open() as pod:
        assert status.exit_code(pod, "one") is None


@pytest.mark.promise("P4")
def test_the_status_directory_cannot_lead_out_of_the_pod(made: Maker, tmp_path: os.PathLike[str]) -> None:
    elsewhere = os.path.join(tmp_path, "elsewhere")
    os.makedirs(os.path.join(elsewhere, "status"))
    with open(os.path.join(elsewhere, "status", "one"), "w") as file:
        file.write("7")
    os.symlink(os.path.join(elsewhere, "status", "one"), os.path.join(made.status, "one"))
    with made.open() as pod:
        assert status.exit_code(pod, "one") is None
        assert status.exit_code(pod, "../../../pod") is None
    os.unlink(os.path.join(made.status, "one"))
    os.rmdir(made.status)
    os.symlink(os.path.join(elsewhere, "status"), made.status)
    with made.open() as pod:
        assert status.exit_code(pod, "one") is None


@pytest.mark.promise("P4")
def test_a_fifo_as_status_does_not_block(made: Maker) -> None:
    os.mkfifo(os.path.join(made.status, "one"))
    with made.open() as pod:
        assert status.exit_code(pod, "one") is None


def test_exit_codes_of_a_copied_stage1(made: Maker) -> None:
    os.unlink(os.path.join(made.path, "overlay-prepared"))
    made.write("stage1/rootfs/rkt/status/one", "3")
    with made.open() as pod:
        assert status.exit_code(pod, "one") == 3


def test_readiness(made: Maker) -> None:
    with made.open() as pod:
        assert not status.is_ready(pod)
        link = os.path.join(made.path, "overlay", TREE, "upper", "rkt", "supervisor-status")
        os.symlink("starting", link)
        assert not status.is_ready(pod)
        os.unlink(link)
        os.symlink("ready", link)
        assert status.is_ready(pod)


def test_the_pid_is_the_one_in_pid_else_in_ppid(made: Maker) -> None:
    with made.open() as pod:
        assert status.pid(pod) == 27251
        made.write("pid", "12\n")
        assert status.pid(pod) == 12
        made.write("pid", "")
        assert status.pid(pod) == 27251
        os.unlink(os.path.join(made.path, "ppid"))
        assert status.pid(pod) is None


def test_times_come_from_the_files(made: Maker) -> None:
    with made.open() as pod:
        assert status.started_ns(pod) == STARTED
        made.write("pid", "1", 99)
        assert status.started_ns(pod) == 99
        os.unlink(os.path.join(made.path, "pod-created"))
        os.utime(os.path.join(made.path, "pod"), ns=(5, 5))
        assert status.created_ns(pod) == 5


def test_image_names(made: Maker) -> None:
    with made.open() as pod:
        app = status.apps(pod)[0]
        assert status.image_of(pod, app) == ("bar.example/box:1", IMAGE)
        app["image"]["labels"] = [{"name": "version", "value": ""}]
        assert status.image_of(pod, app) == ("bar.example/box", IMAGE)
        del app["image"]["name"]
        assert status.image_of(pod, app) == ("--", IMAGE)
        made.write(
            "appsinfo/one/manifest",
            '{"name":"own.example/x","labels":[{"name":"version","value":"2"}]}',
        )
        assert status.image_of(pod, app) == ("own.example/x:2", IMAGE)


def test_networks_in_words(made: Maker) -> None:
    with made.open() as pod:
        assert status.format_networks(status.networks(pod)) == "default:ip4=172.16.28.3"
    assert status.format_networks([NETWORK, {"netName": "b", "ip": "10.1.1.2"}]) == (
        "default:ip4=172.16.28.3, b:ip4=10.1.1.2"
    )
    made.write("net-info.json", "[")
    with made.open() as pod, pytest.raises(RktError, match="invalid network information"):
        status.networks(pod)


class TestContainerPid:
    def test_the_only_child_of_ppid(self, running: Maker) -> None:
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild == 0:
                os.read(os.pipe()[0], 1)
            os.waitpid(grandchild, 0)
            os._exit(0)
        try:
            running.write("ppid", f"{child}\n")
            with running.open() as pod:
                found = process.container_pid(pod)
            assert process.children(child) == [found]
        finally:
            for pid in process.children(child):
                os.kill(pid, 9)
            os.waitpid(child, 0)

    def test_several_children(self, running: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process, "children", lambda _: [1, 2])
        with running.open() as pod, pytest.raises(RktError, match="too many children of pid 27251"):
            process.container_pid(pod)

    def test_a_pod_that_is_starting_is_waited_for(
        self, running: Maker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.unlink(os.path.join(running.path, "ppid"))
        naps = []

        def sleep(seconds: float) -> None:
            naps.append(seconds)
            if len(naps) == 3:
                running.write("pid", "77")

        monkeypatch.setattr("time.sleep", sleep)
        with running.open() as pod:
            assert process.container_pid(pod) == 77
        assert naps == [0.1] * 3

    def test_a_pod_that_ends_instead_is_not_waited_for(self, made: Maker) -> None:
        os.unlink(os.path.join(made.path, "ppid"))
        with made.open() as pod, pytest.raises(RktError, match="isn't currently running"):
            process.container_pid(pod)


def test_the_words_of_states_are_rkts() -> None:
    assert {state.derive(d, x) for d in ("embryo", "prepare", "prepared", "run") for x in (True, False)} | {
        state.derive(d, x) for d in ("exited-garbage", "garbage") for x in (True, False)
    } == {
        "embryo",
        "preparing",
        "aborted prepare",
        "prepared",
        "running",
        "deleting",
        "exited deleting",
        "exited",
        "exited garbage",
        "garbage",
    }
