"""The files of a pod's directory."""

from __future__ import annotations

import os
import stat

import pytest

from rkt.errors import RktError
from rkt.network import record
from rkt.network.forwarding import ForwardedPort
from rkt.network.record import Attachment, NetInfo, Record


def test_net_info_has_the_bytes_of_rkt(tmp_path: os.PathLike[str]) -> None:
    pod = os.fspath(tmp_path)
    info = NetInfo(
        "default",
        "net/99-default.conf",
        plugin_path="stage1/rootfs/usr/lib/rkt/plugins/net/ptp",
        if_name="eth0",
        ip="172.16.28.3",
        args="",
        mask="255.255.255.0",
    )
    record.save_net_info(pod, [info])
    with open(os.path.join(pod, "net-info.json")) as file:
        assert file.read() == (
            '[{"netName":"default","netConf":"net/99-default.conf",'
            '"pluginPath":"stage1/rootfs/usr/lib/rkt/plugins/net/ptp","ifName":"eth0",'
            '"ip":"172.16.28.3","args":"","mask":"255.255.255.0"}]\n'
        )
    assert stat.S_IMODE(os.stat(os.path.join(pod, "net-info.json")).st_mode) == 0o644
    assert [item.to_value() for item in record.load_net_info(pod)] == [info.to_value()]


def test_record_round_trip(tmp_path: os.PathLike[str]) -> None:
    pod = os.fspath(tmp_path)
    os.mkdir(os.path.join(pod, "net"))
    assert record.load(pod) is None
    made = Record(pod)
    made.attachments.append(Attachment("n", "net/n.conf", "eth0", "A=b", [{"ips": []}, None]))
    made.ports.append(ForwardedPort("udp", "", 53, 54))
    made.save()
    read = record.load(pod)
    assert read is not None
    assert [(a.net_name, a.conf_path, a.if_name, a.args, a.results) for a in read.attachments] == [
        ("n", "net/n.conf", "eth0", "A=b", [{"ips": []}, None])
    ]
    assert [port.to_value() for port in read.ports] == [made.ports[0].to_value()]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"networks":[{}],"ports":[]}', '{"networks":1,"ports":[]}']
)
def test_a_damaged_record_is_named(tmp_path: os.PathLike[str], text: str) -> None:
    os.mkdir(os.path.join(tmp_path, "net"))
    path = os.path.join(tmp_path, "net", "record.json")
    with open(path, "w") as file:
        file.write(text)
    with pytest.raises(RktError) as caught:
        record.load(os.fspath(tmp_path))
    assert path in str(caught.value)


def test_netns_file(tmp_path: os.PathLike[str]) -> None:
    pod = os.fspath(tmp_path)
    assert record.load_netns(pod) == ""
    record.save_netns(pod, "/var/run/netns/cni-x")
    assert record.load_netns(pod) == "/var/run/netns/cni-x"
    assert stat.S_IMODE(os.stat(os.path.join(pod, "netns")).st_mode) == 0
