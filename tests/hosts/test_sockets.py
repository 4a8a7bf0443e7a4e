"""Socket activation from a socket unit of the host to the app in the pod."""

from __future__ import annotations

import json
import os

import pytest
from host_images import Images
from host_pods import SECONDS, Pod, assert_as_before, rkt, snapshot, until

from support import hosts

# Asks each address in turn, as a client that has never heard of pods, and prints the answers.
CLIENT = """
import json, socket, sys
socket.setdefaulttimeout(60)
answers = []
for kind, address in json.loads(sys.argv[1]):
    family = socket.AF_UNIX
    if isinstance(address, list):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        address = tuple(address)
    client = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    client.connect(address)
    client.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    text = client.recv(1000).decode() if kind == "udp" else client.makefile().read()
    answers.append(text.splitlines()[-1])
print(json.dumps(answers))
"""


def ask(host: hosts.Host, *addresses: tuple[str, object]) -> list[str]:
    words = ["/usr/bin/python3", "-IS", "-c", CLIENT, json.dumps(addresses)]
    answers: list[str] = json.loads(host.ok(words, SECONDS).out)
    return answers


@pytest.fixture(scope="module")
def paths(systemd_host: hosts.Host, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two images in the host: one with a stream and a datagram port, one for a unix socket and not root."""
    images = Images(os.fspath(tmp_path_factory.mktemp("images")))
    ports = [
        {"name": "http", "protocol": "tcp", "port": 80, "socketActivated": True},
        {"name": "dns", "protocol": "udp", "port": 53, "socketActivated": True},
    ]
    control = [{"name": "control", "protocol": "tcp", "port": 1, "socketActivated": True}]
    made = [
        images.make("one", "/bin/service", "serve", "one", ports=ports),
        images.make("two", "/bin/service", "serve", "two", ports=control, user="1000", group="1000"),
    ]
    return [systemd_host.put(path, f"/var/lib/images/{os.path.basename(path)}") for path in made]


@pytest.mark.promise("P7")
@pytest.mark.parametrize("net", ["default", "host", "none"])
def test_the_first_connection_starts_the_pod_and_is_answered(
    systemd_host: hosts.Host, paths: list[str], net: str
) -> None:
    """Whatever network the pod has, the sockets are the host's; the next connection starts it anew."""
    host = systemd_host
    before = snapshot(host)
    number = 8080 if net == "default" else 80
    pod = Pod(host, "activated")
    words = [hosts.RKT, "--insecure-options=image", "run", f"--net={net}", f"--uuid-file-save={pod.file}"]
    if net == "default":
        words.append(f"--port=http:{number}")
    directory = "/run/systemd/system"
    sockets = {
        "activated.socket": f"ListenStream={number}\nListenDatagram=53\n",
        "control.socket": "ListenStream=/run/control\nFileDescriptorName=control\n"
        "Service=activated.service\n",
    }
    for name, text in sockets.items():
        host.write(f"{directory}/{name}", f"[Socket]\n{text}".encode())
    service = ["Type=notify", "KillMode=mixed", "Delegate=yes", f"ExecStart={' '.join([*words, *paths])}"]
    service.append(f"ExecStopPost={hosts.RKT} rm --uuid-file={pod.file}")
    text = "\n".join(["[Unit]", f"Requires={' '.join(sockets)}", "[Service]", *service, ""])
    host.write(f"{directory}/activated.service", text.encode())
    host.ok(["systemctl", "daemon-reload"])
    host.ok(["systemctl", "start", *sockets])
    for _ in range(2):
        assert host.run(["systemctl", "is-active", "activated.service"]).out == "inactive\n"
        answers = ask(
            host,
            ("tcp", ["127.0.0.1", number]),
            ("udp", ["::1", 53]),
            ("unix", "/run/control"),
            ("tcp", ["::1", number]),
        )
        assert answers == [
            "one 0/2 one.socket:one.socket",
            "one 1/2 one.socket:one.socket",
            "two 0/1 two.socket",
            "one 0/2 one.socket:one.socket",
        ]
        # Type=notify: with its first answer the pod may not have told yet that it is ready.
        until(
            "the unit is not active",
            lambda: host.run(["systemctl", "is-active", "activated.service"]).out == "active\n",
        )
        host.ok(["systemctl", "stop", "activated.service"], SECONDS)
    host.ok(["systemctl", "stop", *sockets])
    for _ in range(2):
        assert rkt(host, "gc", "--grace-period=0s").code == 0
    assert_as_before(host, before)


def test_a_service_without_its_socket_fails_with_the_reason(
    systemd_host: hosts.Host, paths: list[str]
) -> None:
    """Started by hand, and nothing of the pod stays."""
    words = ["--insecure-options=image", "run", "--net=none", paths[0]]
    done = systemd_host.run(["systemd-run", "--wait", "--pipe", "--quiet", hosts.RKT, *words], SECONDS)
    assert done.code == 254, done
    assert 'port "http" is socket-activated, but systemd has passed no socket for tcp port 80' in done.err
    assert rkt(systemd_host, "list", "--no-legend").out.strip() == ""
