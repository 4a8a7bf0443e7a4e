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
    made.attachments.append(Attachment("n", "net/n.conf", "eth0", "A=b", results=[{"ips": []}, None]))
    made.attachments[0].capabilities = {"ips": ["10.0.0.1"]}
    made.attachments[0].masquerade = True
    made.ports.append(ForwardedPort("udp", "", 53, 54, count=3))
    made.firewall, made.places, made.boot = "nft", ["/opt/cni/bin"], "b-1"
    made.save()
    read = record.load(pod)
    assert read is not None
    assert [(a.net_name, a.conf_path, a.if_name, a.args, a.results) for a in read.attachments] == [
        ("n", "net/n.conf", "eth0", "A=b", [{"ips": []}, None])
    ]
    assert read.attachments[0].to_value() == made.attachments[0].to_value()
    assert [port.to_value() for port in read.ports] == [made.ports[0].to_value()]
    assert (read.firewall, read.places, read.boot) == ("nft", ["/opt/cni/bin"], "b-1")
    made.save(durable=False)
    again = record.load(pod)
    assert again is not None
    assert again.ports[0].count == 3
    assert sorted(os.listdir(os.path.join(pod, "net"))) == ["record.json"]


def test_a_record_of_an_older_version_had_iptables(tmp_path: os.PathLike[str]) -> None:
    pod = os.fspath(tmp_path)
    os.mkdir(os.path.join(pod, "net"))
    with open(os.path.join(pod, "net/record.json"), "w") as file:
        file.write(
            '{"networks":[{"netName":"n","netConf":"c","ifName":"eth0","args":"","results":[]}],'
            '"ports":[{"protocol":"tcp","hostIP":"0.0.0.0","hostPort":1,"podPort":2}]}'
        )
    read = record.load(pod)
    assert read is not None
    assert (read.firewall, read.ports[0].count, read.attachments[0].masquerade) == ("iptables", 1, False)


def test_addresses_of_both_families_in_net_info(tmp_path: os.PathLike[str]) -> None:
    info = NetInfo("n", "net/n.conf", ip="10.0.0.2", mask="255.0.0.0", ip6="fd00::2", mask6="ffff::")
    record.save_net_info(os.fspath(tmp_path), [info])
    (read,) = record.load_net_info(os.fspath(tmp_path))
    assert (read.ip, read.ip6, read.mask6) == ("10.0.0.2", "fd00::2", "ffff::")


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
