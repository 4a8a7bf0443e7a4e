"""The rules of a pod, as text for both programs."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from rkt.linux import process
from rkt.network import firewall
from rkt.network.firewall import Target, Translation
from rkt.network.forwarding import ForwardedPort
from rkt.network.result import Address

UUID = "01234567-4b5a-4978-8695-a4b3c2d1e0f1"
ITSELF = "-s 172.16.28.2 -d 172.16.28.2"
PORTS = [ForwardedPort("tcp", "", 8080, 80), ForwardedPort("udp", "192.0.2.2", 53, 53)]
V4 = Address("172.16.28.2/24", "172.16.28.1")
V6 = Address("fd00:1::2/64", "fd00:1::1")


def test_rules_are_those_of_rkt() -> None:
    translation = Translation(PORTS, {4: Target("172.16.28.2")}, [])
    assert translation.families == [4]
    assert firewall.rules(UUID, 4, translation) == [
        ":RKT-PFWD-DNAT-01234567 - [0:0]",
        ":RKT-PFWD-SNAT-01234567 - [0:0]",
        "-I POSTROUTING 1 -s 127.0.0.1 ! -d 127.0.0.1 -j RKT-PFWD-SNAT-01234567",
        # Beyond rkt 1.30: a pod reaches itself by its port of the host.
        f"-I POSTROUTING 1 {ITSELF} -m conntrack --ctstate DNAT -j RKT-PFWD-SNAT-01234567",
        "-I PREROUTING 1 -m addrtype --dst-type LOCAL -j RKT-PFWD-DNAT-01234567",
        "-I OUTPUT 1 -m addrtype --dst-type LOCAL -j RKT-PFWD-DNAT-01234567",
        "-A RKT-PFWD-DNAT-01234567 -d 0.0.0.0/0 -p tcp --dport 8080 -j DNAT --to-destination 172.16.28.2:80",
        "-A RKT-PFWD-SNAT-01234567 -p tcp -s 127.0.0.1 -d 172.16.28.2 --dport 80 -j MASQUERADE",
        "-A RKT-PFWD-SNAT-01234567 -p tcp -s 172.16.28.2 -d 172.16.28.2 --dport 80 -j MASQUERADE",
        "-A RKT-PFWD-DNAT-01234567 -d 192.0.2.2 -p udp --dport 53 -j DNAT --to-destination 172.16.28.2:53",
        "-A RKT-PFWD-SNAT-01234567 -p udp -s 127.0.0.1 -d 172.16.28.2 --dport 53 -j MASQUERADE",
        "-A RKT-PFWD-SNAT-01234567 -p udp -s 172.16.28.2 -d 172.16.28.2 --dport 53 -j MASQUERADE",
    ]


def test_loopback_of_ipv6_is_left_alone_and_guarded_for_ipv4() -> None:
    translation = Translation(
        PORTS, {4: Target("10.1.0.2", "10.1.0.0/24", "br0"), 6: Target("fd00:1::2")}, []
    )
    six = "\n".join(firewall.rules(UUID, 6, translation))
    assert "-I OUTPUT 1 ! -d ::1 -m addrtype" in six
    assert "-s ::1" not in six
    assert translation.opened == "br0"
    assert firewall.guard(UUID, "br0") == [
        ":RKT-PFWD-RAW-01234567 - [0:0]",
        "-I PREROUTING 1 -i br0 -d 127.0.0.0/8 -j RKT-PFWD-RAW-01234567",
        "-A RKT-PFWD-RAW-01234567 -j DROP",
    ]
    assert Translation([], {4: Target("10.1.0.2", "", "br0")}, []).opened == ""


def test_masquerading_spares_the_network_itself_and_multicast() -> None:
    translation = Translation([], {}, [V4, V6])
    assert firewall.rules(UUID, 6, translation) == [
        ":RKT-MASQ-01234567 - [0:0]",
        "-A POSTROUTING -s fd00:1::2 -j RKT-MASQ-01234567",
        "-A RKT-MASQ-01234567 -s fd00:1::2 -d fd00:1::/64 -j RETURN",
        "-A RKT-MASQ-01234567 ! -d ff00::/8 -j MASQUERADE",
    ]
    assert firewall.rules(UUID, 4, translation)[1] == "-A POSTROUTING -s 172.16.28.2 -j RKT-MASQ-01234567"


def test_a_family_without_a_target_gets_no_forwards() -> None:
    assert Translation(PORTS, {6: Target("fd00:1::2")}, []).forwards(6) == PORTS[:1]
    assert Translation(PORTS, {6: Target("fd00:1::2")}, []).families == [6]
    assert Translation(PORTS, {}, []).families == []


def test_ranges() -> None:
    ports = [
        ForwardedPort("tcp", "", 9000, 8000, count=11),
        ForwardedPort("udp", "::", 7000, 7000, count=2),
    ]
    translation = Translation(ports, {4: Target(V4.ip, V4.network, "br-0"), 6: Target(V6.ip)}, [])
    four, six = (" ".join(firewall.rules(UUID, family, translation)) for family in (4, 6))
    assert "--dport 9000:9010 -j DNAT --to-destination 172.16.28.2:8000-8010/9000" in four
    assert "udp" not in four
    assert "--dport 7000:7001 -j DNAT --to-destination [fd00:1::2]:7000-7001/7000" in six
    text = firewall.table(UUID, translation)
    assert "tcp dport 9000-9010 dnat ip to 172.16.28.2 : tcp dport map { 9000 : 8000," in text
    assert "meta nfproto ipv6 udp dport 7000-7001 dnat ip6 to fd00:1::2\n" in text


@pytest.mark.parametrize("masqueraded", [[], [V4], [V4, V6]])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shift", [0, 100])
def test_both_programs_take_the_rules(masqueraded: list[Address], count: int, shift: int) -> None:
    """Nothing is changed: both only check."""
    ports = [ForwardedPort(p, ip, 8000, 8000 + shift, count=count) for p, ip in SPECS]
    translation = Translation(ports, {4: Target(V4.ip, V4.network, "br-0"), 6: Target(V6.ip)}, masqueraded)
    for family, program in ((4, "iptables-restore"), (6, "ip6tables-restore")):
        lines = ["*nat", *firewall.rules(UUID, family, translation), "COMMIT", ""]
        if family == 4:
            lines = ["*raw", *firewall.guard(UUID, translation.opened), "COMMIT", *lines]
        text = "\n".join(lines)
        check(["unshare", "--net", program, "--test", "--noflush"], text)
    check(["unshare", "--net", "nft", "--check", "-f", "-"], firewall.table(UUID, translation))


SPECS = [("tcp", ""), ("udp", "0.0.0.0"), ("udp", "::"), ("sctp", "192.0.2.2"), ("sctp", "fd00::9")]


def check(argv: list[str], text: str) -> None:
    done = subprocess.run(argv, input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, (done.stderr, text)


def test_iptables_comes_first(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert firewall.choose() == "iptables"
    only_nft = f"{tmp_path}/bin"
    subprocess.run(["mkdir", only_nft], check=True)
    monkeypatch.setenv("PATH", "")
    assert firewall.is_installed("iptables-restore")  # the administrator's directories are looked at too
    monkeypatch.setitem(process.CLEAN_ENVIRONMENT, "PATH", only_nft)
    with pytest.raises(Exception, match="neither iptables-restore nor nft is installed"):
        firewall.choose()
    nft = shutil.which("nft", path="/usr/sbin:/usr/bin")
    assert nft is not None
    subprocess.run(["/bin/ln", "-s", nft, f"{only_nft}/nft"], check=True)
    assert firewall.choose() == "nft"
