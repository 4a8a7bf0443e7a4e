"""Builds what the two test hosts are made of from Debian packages, once, below build/hosts.

    build/hosts/HASH/tree       a Debian system with systemd as its init, used by both hosts
                     disk.img   the same tree as an ext4 file system
                     vmlinuz    Debian's cloud kernel (its modules are in the tree)
                     initrd     static busybox that loads the drivers of the disk
                     tools      the emulator and mkfs.ext4 with their libraries, run by chroot, not installed

HASH covers this file, the agent and the list of mirrors. A build has the name HASH.new until it is complete;
an interrupted one and those of other hashes that nobody uses (no shared lock on the directory) go at the next
build.
"""

from __future__ import annotations

import fcntl
import glob
import gzip
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(ROOT, "build", "hosts")
AGENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hosts_agent.py")

TREE_PACKAGES = (
    "systemd systemd-sysv dbus systemd-container python3 gpgv iptables containernetworking-plugins iproute2 "
    "busybox-static curl procps kmod ca-certificates openvswitch-switch"
).split()
TOOLS_PACKAGES = "qemu-system-x86 e2fsprogs linux-image-cloud-amd64".split()
DISK_SIZE = 4 << 30
# In the order in which they need each other.
INITRD_MODULES = (
    "virtio/virtio_ring virtio/virtio virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev "
    "virtio/virtio_pci block/virtio_blk char/virtio_console"
).split()

# Not on a test host: what waits for hardware, what changes the machine below systemd-nspawn (whose kernel is
# the machine's), what costs seconds under emulation, and clocks that fire in the middle of a test.
MASKED_UNITS = (
    "serial-getty@ttyS0.service getty@tty1.service getty-static.service console-getty.service "
    "systemd-binfmt.service proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount "
    "sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount "
    "dev-hugepages.mount systemd-sysctl.service systemd-modules-load.service systemd-random-seed.service "
    "systemd-pstore.service modprobe@.service kmod-static-nodes.service systemd-firstboot.service "
    "systemd-update-utmp.service systemd-update-utmp-runlevel.service "
    "openvswitch-switch.service ovs-vswitchd.service ovsdb-server.service ovs-record-hostname.service "
    "fstrim.timer dpkg-db-backup.timer systemd-tmpfiles-clean.timer"
).split()

FILES: dict[str, tuple[int, str]] = {
    "etc/hostname": (0o644, "testhost\n"),
    "etc/hosts": (0o644, "127.0.0.1 localhost\n127.0.1.1 testhost\n"),
    "etc/resolv.conf": (0o644, "nameserver 192.0.2.1\n"),
    # Without it systemd takes every boot for the first one.
    "etc/machine-id": (0o444, "6d1f0e6bb3a94a3c8d7bb0c6a1d4a5e7\n"),
    "usr/local/lib/host-init": (
        0o755,
        """#!/bin/sh
# Process 1 below systemd-nspawn, until systemd takes over: makes /proc and /sys what they are on a host.
set -e
# nspawn binds the cgroup v1 controllers read-only, and systemd then manages services without any.
for directory in /sys/fs/cgroup/*; do
    if mountpoint -q "$directory"; then mount -o remount,bind,rw "$directory"; fi
done
# nspawn's /sys is a choice of directories. The kernel lets a user namespace mount sysfs and proc only where a
# whole one is visible without covers, and pods with --private-users need both.
mount --make-rprivate /
mount -t sysfs -o nosuid,nodev,noexec sysfs /mnt
mount --move /sys/fs/cgroup /mnt/fs/cgroup
umount --recursive --lazy /sys
mount --move /mnt /sys
for cover in /proc/kmsg /proc/sys/kernel/random/boot_id; do
    if mountpoint -q "$cover"; then umount --lazy "$cover"; fi
done
# systemd raises fs.file-max and fs.nr_open, which are the machine's; host-prepare takes this away again.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount --make-rshared /
exec /lib/systemd/systemd "$@"
""",
    ),
    "usr/local/lib/host-prepare": (
        0o755,
        """#!/bin/sh
# Before the first command: /proc/sys as on any host, and an uplink with a default route that leads nowhere.
# Lazily, as journald has the host's name open in it.
if mountpoint -q /proc/sys; then umount --lazy /proc/sys; fi
ip link add uplink type veth peer name upstream
ip address add 192.0.2.10/24 dev uplink
ip link set upstream up
ip link set uplink up
ip link set lo up
ip route add default via 192.0.2.1
""",
    ),
    # The commands of a test are those of an administrator who has logged in: in a scope of a user's slice. A
    # command that shall belong to a service is started with systemd-run by the test.
    "etc/systemd/system/host-agent.service": (
        0o644,
        """[Unit]
Description=Agent of the tests
After=dbus.socket

[Service]
Type=exec
ExecStartPre=/usr/local/lib/host-prepare
ExecStart=/usr/bin/systemd-run --quiet --scope --slice=user-0.slice --unit=session-1 \
/usr/bin/python3 -IS /usr/local/lib/host-agent.py
StandardError=journal+console
""",
    ),
}

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /lib/$module.ko; done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.05; done
/bin/busybox mount -t ext4 -o noinit_itable /dev/vda /root
[ -b /dev/vdb ] && /bin/busybox mount -t ext4 -o ro /dev/vdb /root/srv/checkout
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""


class BuildError(Exception):
    """A host could not be built; the text has the command and its output."""


def run(*argv: str, temporary: str | None = None) -> str:
    """Run a build command that dies with us, with its mounts in a namespace of their own.

    What it leaves in the directory ``temporary`` when it is killed goes with the rest of the build.
    """
    guarded = [
        *"setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc --".split(),
        *argv,
    ]
    environment = {**os.environ, "TMPDIR": temporary} if temporary else None
    done = subprocess.run(
        guarded, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
    )
    if done.returncode:
        raise BuildError(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def mirrors() -> str:
    """The machine's own list of Debian mirrors."""
    for path in ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"):
        if os.path.exists(path) and os.path.getsize(path):
            return path
    raise BuildError("neither /etc/apt/sources.list nor debian.sources names a mirror of Debian")


def key() -> str:
    digest = hashlib.sha256()
    for path in (os.path.abspath(__file__), AGENT, mirrors()):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]


def packages(target: str, variant: str, wanted: list[str]) -> None:
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")]
    options = ["--mode=root", "--quiet", f"--variant={variant}", f"--include={','.join(wanted)}"]
    temporary = target + ".tmp"
    os.mkdir(temporary)
    run("mmdebstrap", *options, *left_out, "bookworm", target, mirrors(), temporary=temporary)
    shutil.rmtree(temporary)


def configure(tree: str) -> None:
    """Make the installed system a test host: names, masks, agent, kernel modules known."""
    for name, (mode, text) in FILES.items():
        write(os.path.join(tree, name), text.encode(), mode)
    with open(AGENT, "rb") as file:
        write(os.path.join(tree, "usr/local/lib/host-agent.py"), file.read(), 0o755)
    units = os.path.join(tree, "etc/systemd/system")
    for unit in MASKED_UNITS:
        link(os.path.join(units, unit), "/dev/null")
    link(os.path.join(units, "multi-user.target.wants/host-agent.service"), "../host-agent.service")
    link(os.path.join(units, "default.target"), "/lib/systemd/system/multi-user.target")
    # Directories that mounts and journals go to; a persistent journal is what containers' journals are linked
    # to.
    for name in ("srv/share", "srv/checkout", "var/lib/rkt", "var/log/journal", "run", "proc", "sys", "dev"):
        os.makedirs(os.path.join(tree, name), exist_ok=True)


def write(path: str, data: bytes, mode: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)


def link(path: str, target: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(target, path)


def kernel(tools: str, tree: str, target: str) -> None:
    """Move the kernel out of the tools, its modules into the tree, and make the initial file system."""
    (image,) = glob.glob(os.path.join(tools, "boot/vmlinuz-*"))
    release = os.path.basename(image).removeprefix("vmlinuz-")
    os.rename(image, os.path.join(target, "vmlinuz"))
    shutil.rmtree(os.path.join(tools, "boot"))
    modules = os.path.join(tree, "usr/lib/modules")
    os.makedirs(modules, exist_ok=True)
    shutil.move(os.path.join(tools, "lib/modules", release), modules)
    run("chroot", tree, "depmod", release)
    members = {"init": INIT.format(modules=" ".join(map(os.path.basename, INITRD_MODULES))).encode()}
    sources = {f"lib/{os.path.basename(name)}.ko": name for name in INITRD_MODULES}
    for member, name in sources.items():
        with open(os.path.join(modules, release, "kernel/drivers", name + ".ko"), "rb") as file:
            members[member] = file.read()
    with open(os.path.join(tree, "bin/busybox"), "rb") as file:
        members["bin/busybox"] = file.read()
    with gzip.open(os.path.join(target, "initrd"), "wb", compresslevel=1) as archive:
        archive.write(cpio(members))


def cpio(files: dict[str, bytes]) -> bytes:
    """A "newc" archive (kernel: Documentation/driver-api/early-userspace/buffer-format.rst) of programs."""
    out = bytearray()
    entries: list[tuple[str, int, bytes]] = [
        (name, 0o040755, b"") for name in ("bin", "dev", "lib", "proc", "root", "sys")
    ]
    entries += [(name, 0o100755, data) for name, data in files.items()]
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def disk(tools: str, tree: str, image: str) -> None:
    with open(image, "wb") as file:
        file.truncate(DISK_SIZE)
    binds = {tree: "/run/tree", os.path.dirname(image): "/run/target"}
    script = [
        f'mkdir -p "$1{inside}" && mount --bind "{outside}" "$1{inside}"' for outside, inside in binds.items()
    ]
    make = f'chroot "$1" mkfs.ext4 -q -F -d /run/tree "/run/target/{os.path.basename(image)}"'
    run("sh", "-ec", "\n".join([*script, make]), "sh", tools)


def build(target: str) -> None:
    tree, tools = os.path.join(target, "tree"), os.path.join(target, "tools")
    os.makedirs(target)
    packages(tools, "extract", TOOLS_PACKAGES)
    packages(tree, "essential", TREE_PACKAGES)
    configure(tree)
    kernel(tools, tree, target)
    # Where the running emulator and mkfs see the machine's /run, /dev and /proc.
    for name in ("run", "dev", "proc"):
        os.makedirs(os.path.join(tools, name), exist_ok=True)
    disk(tools, tree, os.path.join(target, "disk.img"))


def collect(keep: str) -> None:
    """Remove interrupted builds and old ones that no test run holds. The caller has the build lock."""
    for name in os.listdir(CACHE):
        path = os.path.join(CACHE, name)
        if name == keep or not os.path.isdir(path):
            continue
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
        shutil.rmtree(path)


class Parts:
    """A complete build, held by a shared lock for as long as this object is open."""

    def __init__(self) -> None:
        os.makedirs(CACHE, exist_ok=True)
        name = key()
        self.directory = os.path.join(CACHE, name)
        with open(os.path.join(CACHE, "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(self.directory):
                collect(name)
                new = self.directory + ".new"
                build(new)
                os.rename(new, self.directory)
            self._fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def close(self) -> None:
        os.close(self._fd)


if __name__ == "__main__":
    # Lets a check build the hosts beside its first tests.
    sys.stdout.write(Parts().directory + "\n")
