#!/usr/bin/python3
"""Measures rkt beside what users would pick instead, in one run on one machine; ratios first.

    make bench                    everything, written to bench/RESULTS.md
    tests/bench/run.py -n 30      number of interleaved rounds (default 15)

Contenders of one table take turns, so that a busy moment hits all of them alike; the figure is the median.
Every contender starts the same root file system (Debian's static busybox).  What is not timed: importing
images, removing what a run leaves (``rkt gc``, ``podman rm``).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import images
import layers
import scale
from contenders import ENVIRONMENT, RKT, ROOT, STAGE1, Bench, Contender, podman, quiet

from support import aci


def start_up(bench: Bench) -> None:
    """The commands over the bare interpreter; ``run`` up to the point where stage1 is exec'd."""
    stub = aci.build(
        os.path.join(bench.base, "stage1-stub.aci"),
        aci.manifest(
            "example.com/stage1-stub",
            app=None,
            annotations=[
                {"name": "coreos.com/rkt/stage1/run", "value": "/true"},
                {"name": "coreos.com/rkt/stage1/enter", "value": "/true"},
                {"name": "coreos.com/rkt/stage1/gc", "value": "/true"},
                {"name": "coreos.com/rkt/stage1/interface-version", "value": "6"},
            ],
        ),
        [
            aci.directory("rkt"),
            aci.directory("rkt/status"),
            aci.directory("opt"),
            aci.directory("opt/stage2"),
            aci.directory("etc"),
            aci.Entry("true", open(aci.BUSYBOX, "rb").read(), mode=0o755),
        ],
    )
    stub_key = subprocess.run(
        [*bench.rkt, "fetch", "--full", stub], capture_output=True, text=True, env=ENVIRONMENT, check=True
    ).stdout.strip()
    bare = "python3 -IS -c pass"
    bench.table(
        "Start-up",
        [
            Contender(bare, ["/usr/bin/python3", "-IS", "-c", "pass"]),
            Contender("rkt version", [RKT, "version"]),
            Contender("rkt list (no pods)", [*bench.rkt, "list"]),
            Contender(
                "rkt run, until stage1 is exec'd",
                [*bench.rkt, "run", f"--stage1-hash={stub_key}", "--net=none", bench.key],
                bench.collect,
            ),
        ],
        bare,
    )


def run_true(bench: Bench) -> None:
    """``/bin/true`` from the same root file system, without a network.

    The stage1 images are in the store, as they are after the first run: a file that is named by
    ``--stage1-path`` would be read and hashed each time.
    """
    fly = subprocess.run(
        [*bench.rkt, "fetch", "--full", f"{STAGE1}/stage1-fly.aci"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    ).stdout.strip()
    contenders = [
        Contender("rkt run (systemd)", [*bench.rkt, "run", "--net=none", bench.key], bench.collect),
        Contender(
            "rkt run (fly)",
            [*bench.rkt, "run", "--net=none", f"--stage1-hash={fly}", bench.key],
            bench.collect,
        ),
        podman(bench),
        crun(bench),
        Contender(
            "systemd-nspawn",
            [
                "systemd-nspawn",
                "-q",
                "--register=no",
                "--keep-unit",
                "--private-network",
                "-D",
                bench.rootfs,
                "/bin/true",
            ],
        ),
        Contender(
            "bwrap",
            [
                "bwrap",
                "--bind",
                bench.rootfs,
                "/",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                "--unshare-all",
                "/bin/true",
            ],
        ),
    ]
    bench.table("run of /bin/true, no network", contenders, "podman run")
    rows = {c.name: c.median for c in contenders}
    bench.lines += [f"rkt run (fly) / crun run: {rows['rkt run (fly)'] / rows['crun run']:.1f}", ""]
    print(bench.lines[-2])


def run_network(bench: Bench) -> None:
    """The same with the default network of each, then with its end; then the plugins of both alone, as they
    are run."""
    systemd = [*bench.rkt, "run"]
    contenders = [
        Contender("rkt run (default network)", [*systemd, bench.key], bench.collect),
        Contender("rkt run (no network)", [*systemd, "--net=none", bench.key], bench.collect),
        podman(bench, "podman run (bridge)", "bridge"),
        podman(bench, "podman run (no network)", "none"),
    ]
    bench.table("run of /bin/true, default network", contenders, "podman run (bridge)")
    contenders = [
        run_and_collect(bench, "rkt run, rkt gc (default network)", "default"),
        run_and_collect(bench, "rkt run, rkt gc (no network)", "none"),
        podman(bench, "podman run --rm (bridge)", "bridge", "--rm"),
        podman(bench, "podman run --rm (no network)", "none", "--rm"),
    ]
    bench.table("run of /bin/true until nothing of it is left", contenders, "podman run --rm (bridge)")
    plugins(bench)


def run_and_collect(bench: Bench, name: str, network: str) -> Contender:
    run = shlex.join([*bench.rkt, "run", f"--net={network}", bench.key])
    return Contender(name, ["sh", "-ec", f"{run}; {shlex.join([*bench.rkt, 'gc', '--grace-period=0s'])}"])


# What the plugins of both are given: rkt's default network without masquerading, which rkt does itself by
# one iptables-restore, and podman's own default list.
_IPAM = {"type": "host-local", "subnet": "10.99.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
_PLUGINS = {
    "its address management alone (host-local)": {"type": "host-local", "ipam": _IPAM},
    "ptp, masquerading by rkt": {"type": "ptp", "ipam": _IPAM},
    "ptp, masquerading by itself": {"type": "ptp", "ipMasq": True, "ipam": _IPAM},
    "bridge, masquerading by itself": {
        "type": "bridge",
        "bridge": "bench0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": _IPAM,
    },
}


def plugins(bench: Bench) -> None:
    """ADD of one plugin, in a namespace that stays; DEL is timed in a row of its own."""
    quiet("ip", "netns", "add", "bench")
    contenders = []
    for name, config in _PLUGINS.items():
        path = os.path.join(bench.base, f"plugin-{len(contenders)}.json")
        with open(path, "w") as file:
            json.dump({"cniVersion": "0.4.0", "name": "bench", **config}, file)
        call = (
            "CNI_CONTAINERID=bench CNI_NETNS=/var/run/netns/bench CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni "
            f"CNI_COMMAND=%s exec /usr/lib/cni/{config['type']} <{path}"
        )
        add, undo = ["sh", "-c", call % "ADD"], ["sh", "-c", call % "DEL"]
        contenders.append(Contender(name, add, lambda undo=undo: quiet(*undo)))  # type: ignore[misc]
        if name.startswith("ptp, masquerading by rkt"):
            contenders.append(Contender("the same, DEL", undo, before=lambda add=add: quiet(*add)))  # type: ignore[misc]
    restore = os.path.join(bench.base, "rules")
    with open(restore, "w") as file:
        file.write(
            "*nat\n:BENCH - [0:0]\n-A POSTROUTING -s 10.99.0.2 -j BENCH\n"
            "-A BENCH -s 10.99.0.2 -d 10.99.0.0/24 -j RETURN\n-A BENCH ! -d 224.0.0.0/4 -j MASQUERADE\n"
            "COMMIT\n"
        )
    contenders.append(
        Contender(
            "the rules of rkt (iptables-restore)",
            ["sh", "-c", f"exec iptables-restore --noflush <{restore}"],
            lambda: quiet("iptables", "-t", "nat", "-F", "POSTROUTING"),
        )
    )
    bench.table("ADD of one plugin", contenders, "ptp, masquerading by itself")
    quiet("ip", "netns", "delete", "bench")


def fetch_file(bench: Bench) -> None:
    """An image file into an empty store, rendered, beside unpacking it with tar and hashing it."""
    image = images.build(os.path.join(bench.base, "large.aci"))
    rkt = [bench.rkt[0], "", *bench.rkt[2:]]
    contenders = [
        Contender(name, argv, lambda: images.empty(bench.base))
        for name, argv in images.commands(rkt, bench.base, image)
    ]
    bench.table(
        f"ACI of {images.TARGET // 10**6} MB ({os.path.getsize(image) // 10**6} MB compressed), store empty",
        contenders,
        "tar -xzf",
    )
    argv = images.fetch_command(rkt, os.path.join(bench.base, "fetched"), image)
    most = images.peak(argv, ENVIRONMENT)
    images.empty(bench.base)
    bench.lines += [f"Peak memory of rkt fetch, all its processes together: {most / 2**20:.0f} MiB", ""]
    print(bench.lines[-2])


def crun(bench: Bench) -> Contender:
    bundle = os.path.join(bench.base, "bundle")
    os.makedirs(bundle)
    quiet("crun", "spec", "-f", f"{bundle}/config.json")
    with open(f"{bundle}/config.json") as file:
        config = json.load(file)
    config["process"]["args"] = ["/bin/true"]
    config["process"]["terminal"] = False
    config["root"] = {"path": bench.rootfs, "readonly": False}
    with open(f"{bundle}/config.json", "w") as file:
        json.dump(config, file)
    return Contender(
        "crun run",
        ["crun", f"--root={bench.base}/crun", "--cgroup-manager=cgroupfs", "run", "-b", bundle, "bench"],
    )


_ENTER = """
if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi
mkdir -p /var/lib/cni && mount -t tmpfs tmpfs /var/lib/cni
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && mount --make-shared /run/netns
ip link set lo up
exec "$@"
"""


def enter_namespaces() -> None:
    """A host of our own: bridges, rules and leases of all contenders go with it.

    crun 1.8 refuses a v1 host with a v2 tree beside it: hide that tree from all contenders alike.
    """
    if os.environ.get("RKT_BENCH_NAMESPACE"):
        return
    os.execvpe(
        "unshare",
        [
            "unshare",
            "--mount",
            "--net",
            "sh",
            "-c",
            _ENTER,
            "sh",
            sys.executable,
            *sys.argv,
        ],
        {**os.environ, "RKT_BENCH_NAMESPACE": "1"},
    )


def fetch_layers(bench: Bench) -> None:
    """Container images of several layers; a round takes half a minute, so there are fewer."""
    command = [RKT, f"--local-config={bench.base}/config"]
    rounds = min(bench.rounds, layers.ROUNDS)
    lines = layers.tables(command, os.path.join(bench.base, "fetch"), ENVIRONMENT, rounds)
    bench.lines += lines
    print("\n".join(lines), flush=True)


TABLES = {
    "start-up": start_up,
    "run": run_true,
    "eight": scale.eight_at_once,
    "many": scale.many,
    "idle": scale.idle,
    "network": run_network,
    "image": fetch_file,
    "layers": fetch_layers,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--rounds", type=int, default=15)
    parser.add_argument("tables", nargs="*", choices=[[], *TABLES])
    words = parser.parse_args()
    enter_namespaces()
    base = tempfile.mkdtemp(prefix="rkt-bench-", dir="/var/tmp")
    try:
        bench = Bench(base, words.rounds)
        for name in words.tables or TABLES:
            TABLES[name](bench)
        if not words.tables:
            write_results(bench)
    finally:
        subprocess.run([RKT, f"--dir={base}/data", "gc", "--grace-period=0s"], env=ENVIRONMENT, check=False)
        subprocess.run(["umount", "-q", f"{base}/podman/overlay"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(base, ignore_errors=True)


def write_results(bench: Bench) -> None:
    versions = []
    for argv in (
        ["podman", "--version"],
        ["crun", "--version"],
        ["systemd-nspawn", "--version"],
        ["bwrap", "--version"],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        versions.append(done.stdout.splitlines()[0] if done.stdout else argv[0])
    head = [
        "# Results of make bench",
        "",
        ", ".join(
            [time.strftime("%Y-%m-%d"), f"{os.cpu_count()} cores", f"Linux {os.uname().release}", *versions]
        )
        + f"; median of {bench.rounds} interleaved rounds.",
        "",
    ]
    path = os.path.join(ROOT, "bench", "RESULTS.md")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write("\n".join(head + bench.lines))
    print(f"written to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
