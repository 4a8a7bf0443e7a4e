"""Volumes, mount points, mounts and ports, from JSON and from flags."""

from __future__ import annotations

import pytest

from rkt.appc.errors import AppcError
from rkt.appc.port import ExposedPort, Port
from rkt.appc.volume import Mount, MountPoint, Volume


@pytest.mark.parametrize(
    "text",
    [
        "v,kind=host,source=/tmp,readOnly=true,recursive=false",
        "v,kind=empty,readOnly=false,mode=0700,uid=5,gid=-1",
        "v,kind=host,source=/a;b=%41+&c d",
        "v,kind=empty,mode=",
    ],
)
def test_a_volume_prints_its_flag(text: str) -> None:
    assert str(Volume.from_flag(text)) == text


def test_order_and_defaults_of_the_flag() -> None:
    assert (
        str(Volume.from_flag("v,gid=0,source=,uid=0,mode=0755,readOnly=T,kind=empty"))
        == "v,kind=empty,readOnly=true"
    )


@pytest.mark.parametrize(
    "text",
    [
        "v,kind=host",
        "v,kind=host,source=/a,source=/b",
        "v,Kind=empty",
        "v,kind=empty,uid=x",
        "v,kind",
        "v,kind=empty,",
        "v,kind=empty,name=w",
        "v,kind=empty,recursive=yes",
    ],
)
def test_bad_volume_flags(text: str) -> None:
    with pytest.raises(AppcError):
        Volume.from_flag(text)


@pytest.mark.parametrize("text", "1 t T TRUE true True".split())
def test_what_is_true(text: str) -> None:
    assert MountPoint.from_flag(f"a,path=/p,readOnly={text}").read_only


@pytest.mark.parametrize("text", ["tRue", "yes", "", "01"])
def test_what_is_no_truth_value(text: str) -> None:
    with pytest.raises(AppcError):
        MountPoint.from_flag(f"a,path=/p,readOnly={text}")


def test_volumes_from_json() -> None:
    empty = Volume.from_value({"name": "a", "kind": "empty", "uid": None})
    assert empty.to_value() == {"name": "a", "kind": "empty", "mode": "0755", "uid": 0, "gid": 0}
    host = Volume.from_value({"name": "a", "kind": "host", "source": "/s", "readOnly": False})
    assert host.to_value() == {"name": "a", "kind": "host", "source": "/s", "readOnly": False}
    assert Volume("a", "empty").to_value() == empty.to_value()
    for member in ({"mode": "0755"}, {"uid": 0}, {"gid": 0}, {"source": "s"}):
        with pytest.raises(AppcError):
            Volume.from_value({"name": "a", "kind": "host", "source": "/s", **member})


def test_mounts() -> None:
    mount = Mount.from_flag("volume=data,target=/srv")
    assert mount.to_value() == {"volume": "data", "path": "/srv"}
    for text in ("volume=data", "target=/srv", "data,target=/srv", "volume=data,target=/srv,mode=x", ""):
        with pytest.raises(AppcError):
            Mount.from_flag(text)
    inline = Mount.from_value({"volume": "a", "path": "/p", "appVolume": {"name": "b", "kind": "empty"}})
    assert inline.to_value()["appVolume"]["kind"] == "empty"


def test_a_mount_without_its_volume_reads_but_does_not_print() -> None:
    with pytest.raises(AppcError, match="volume: ACName cannot be empty"):
        Mount.from_value({"path": "/p"}).to_value()


def test_ports() -> None:
    port = Port.from_value({"name": "http", "port": 80, "count": 0})
    assert port.to_value() == {
        "name": "http",
        "protocol": "",
        "port": 80,
        "count": 1,
        "socketActivated": False,
    }
    assert Port.from_flag("http,protocol=tcp,port=65535").count == 0
    assert Port.from_flag("http,protocol=tcp,port=80,count=2,socketActivated=1").socket_activated
    Port.from_value({"port": 65535, "count": 1})
    for value in ({"port": 65535, "count": 2}, {"port": 2, "count": 2**64 - 1}, {"port": None}):
        with pytest.raises(AppcError):
            Port.from_value(value)
    for text in ("http,port=65536", "http,port=+80", "http,port=80,count=65536", "http", "http,port=80,x=y"):
        with pytest.raises(AppcError):
            Port.from_flag(text)


def test_exposed_ports() -> None:
    value = {
        "name": "http",
        "hostPort": 70000,
        "hostIP": "::1",
        "podPort": {"name": "x", "protocol": "tcp", "port": 1},
    }
    assert ExposedPort.from_value(value).to_value() == {
        "name": "http",
        "hostPort": 70000,
        "hostIP": "::1",
        "podPort": {"name": "x", "protocol": "tcp", "port": 1, "count": 1, "socketActivated": False},
    }
    for address in ("", None):
        assert ExposedPort.from_value({"name": "a", "hostIP": address}).host_ip is None
