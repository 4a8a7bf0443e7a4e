"""Makes the stage1 images: ``python3 -m rkt.stage1.build --flavor=host|fly --output=FILE``.

An image holds entry points, the code they import (source and byte code whose validity is not checked against
it, so that file times do not matter) and the files of stage1's root.  The same source and the same Python
give the same image, byte for byte.
"""

from __future__ import annotations

import importlib.util
import io
import json
import marshal
import os
import platform
import struct
import sys
import tarfile

from rkt import VERSION, bundle
from rkt.appc import VERSION as APPC_VERSION
from rkt.network import configuration
from rkt.stage1.common import call_filter, compiled
from rkt.stage1.systemd import container_filter, login, units

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PYTHON = "usr/lib/rkt/stage1/python"
_PREFIX = "coreos.com/rkt/stage1"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "aarch64", "i686": "i386", "ppc64le": "ppc64le"}

_RUN = ("run", "init")
"""Names of the program that becomes the pod."""

_ENTRY = """#!/usr/bin/python3 -IS
import gc, os, sys
{first}
gc.disable()
sys.dont_write_bytecode = True
python = os.path.join(os.path.dirname(os.path.abspath(__file__)), "{python}")
sys.path.insert(0, python)

from rkt import bundle

bundle.install(python + ".bundle", python)

from rkt.stage1.{module} import main

status = main(sys.argv)
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
"""

# Signals wait until the program can take back what has been begun, or end without a traceback:
# common/interrupt.py.
_WAIT = "import _signal\n\n_signal.pthread_sigmask(_signal.SIG_BLOCK, (1, 2, 15))"

_HOSTS = """\
# This is the default rkt /etc/hosts
127.0.0.1 localhost localhost.domain localhost4 localhost4.localdomain4

::1 ip6-localhost ip6-loopback localhost6 localhost6.localdomain6
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
ff02::3 ip6-allhosts
"""

_OS_RELEASE = f'NAME="rkt stage1"\nID=rkt\nVERSION_ID={VERSION}\nPRETTY_NAME="rkt stage1 {VERSION}"\n'

# Logs live in the pod's directory; an app's output is printed by its stream, so nothing is forwarded here.
_JOURNALD = """\
[Journal]
Storage=persistent
RateLimitIntervalSec=0
ForwardToSyslog=no
ForwardToKMsg=no
ForwardToConsole=no
ForwardToWall=no
MaxLevelConsole=debug
ReadKMsg=no
Audit=no
"""

_SYSTEM = """\
[Manager]
DefaultTasksMax=infinity
DefaultMemoryAccounting=no
DefaultTasksAccounting=no
DefaultBlockIOAccounting=no
DefaultIOAccounting=no
"""


class Flavor:
    """What differs between images: entry point modules by path, interface version, further files."""

    __slots__ = ("directories", "entries", "files", "interface", "links", "name", "packages")

    def __init__(self, name: str, *, interface: int, entries: dict[str, str], packages: list[str]) -> None:
        self.name, self.interface, self.entries = name, interface, entries
        self.packages = packages
        self.directories: dict[str, int] = {}
        self.files: dict[str, tuple[bytes, int]] = {}
        self.links: dict[str, str] = {"flavor": name}

    @property
    def annotations(self) -> list[dict[str, str]]:
        made = [
            {"name": f"{_PREFIX}/{'run' if entry in _RUN else entry}", "value": f"/{entry}"}
            for entry in self.entries
        ]
        return [
            *made,
            {"name": f"{_PREFIX}/extensions", "value": "strict-isolators"},
            {"name": f"{_PREFIX}/interface-version", "value": str(self.interface)},
        ]


def host() -> Flavor:
    """The default: systemd-nspawn and systemd of the host (version 247 and later)."""
    entries = {
        "attach": "systemd.attach",
        "init": "systemd.init",
        "enter": "systemd.enter",
        "gc": "systemd.gc",
        "stop": "systemd.stop",
    }
    flavor = Flavor("host", interface=6, entries=entries, packages=["systemd"])
    flavor.directories = {
        "dev": 0o755,
        "etc/systemd": 0o755,
        f"{units.DIRECTORY}/{os.path.dirname(units.EARLY)}": 0o755,
        "proc": 0o755,
        "rkt/diagnostic": 0o755,
        "rkt/env": 0o755,
        "rkt/reserve": 0o755,
        "root": 0o700,
        "run": 0o755,
        "sys": 0o755,
        "var/lib": 0o755,
        "var/log/journal": 0o755,
        "var/tmp": 0o1777,
    }
    for name in ("bin", "lib", "lib64", "sbin"):
        flavor.links[name] = "usr/" + name
    # Where libsystemd looks for the system bus of a machine.
    flavor.links["var/run"] = "../run"
    for name, text in {**units.static_units(), **login.units()}.items():
        flavor.files[f"{units.DIRECTORY}/{name}"] = (text.encode(), 0o644)
    for name, text in login.files().items():
        flavor.files[name] = (text.encode(), 0o644)
    for script in units.SCRIPTS:
        with open(os.path.join(_PACKAGE, "stage1", "systemd", script), "rb") as file:
            flavor.files[f"rkt/{script}"] = (file.read(), 0o755)
    flavor.files["etc/os-release"] = (_OS_RELEASE.encode(), 0o644)
    flavor.files["etc/systemd/journald.conf"] = (_JOURNALD.encode(), 0o644)
    flavor.files["etc/systemd/system.conf"] = (_SYSTEM.encode(), 0o644)
    flavor.files["etc/nsswitch.conf"] = (b"passwd: files\ngroup: files\n", 0o644)
    return flavor


def fly() -> Flavor:
    """One app, chroot and mount namespace only."""
    entries = {"run": "fly.run", "enter": "fly.enter", "gc": "fly.gc", "stop": "fly.stop"}
    return Flavor("fly", interface=5, entries=entries, packages=["fly"])


FLAVORS = {"host": host, "fly": fly}


class _Image:
    """Paths and contents of a root file system, written out in order."""

    __slots__ = ("directories", "files", "links")

    def __init__(self) -> None:
        self.directories: dict[str, int] = {}
        self.files: dict[str, tuple[bytes, int]] = {}
        self.links: dict[str, str] = {}

    def add(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.files[path] = (data, mode)

    def write(self, path: str, manifest: bytes) -> None:
        """The archive, uncompressed: it is imported once per store and hashed as it is."""
        for name in [*self.files, *self.links, *self.directories]:
            parent = os.path.dirname(name)
            while parent and parent not in self.directories:
                self.directories[parent] = 0o755
                parent = os.path.dirname(parent)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            _add(tar, "rootfs", tarfile.DIRTYPE, 0o755)
            for name in sorted([*self.directories, *self.files, *self.links]):
                full = "rootfs/" + name
                if name in self.directories:
                    _add(tar, full, tarfile.DIRTYPE, self.directories[name])
                elif name in self.links:
                    _add(tar, full, tarfile.SYMTYPE, 0o777, link=self.links[name])
                else:
                    data, mode = self.files[name]
                    _add(tar, full, tarfile.REGTYPE, mode, data=data)
            _add(tar, "manifest", tarfile.REGTYPE, 0o644, data=manifest)
        temporary = path + ".new"
        with open(temporary, "wb") as file:
            file.write(out.getvalue())
        os.rename(temporary, path)


def _add(
    tar: tarfile.TarFile, name: str, kind: bytes, mode: int, *, data: bytes = b"", link: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
    tar.addfile(info, io.BytesIO(data))


def build(flavor: Flavor, output: str) -> None:
    """Write the image of a flavor."""
    image = _Image()
    image.directories = {"opt/stage2": 0o755, "rkt/status": 0o755, "tmp": 0o1777, **flavor.directories}
    image.files.update(flavor.files)
    image.links.update(flavor.links)
    for entry, module in flavor.entries.items():
        first = _WAIT if entry in (*_RUN, "attach") else ""
        image.add(entry, _ENTRY.format(first=first, python=_PYTHON, module=module).encode(), 0o755)
    image.add("etc/hosts-fallback", _HOSTS.encode())
    for name, text in configuration.BUILTIN:
        image.add(f"{configuration.STAGE1_DIRECTORY}/{name}", text.encode())
    for name in _sources(flavor):
        _add_module(image, name)
    sources = [(f"rkt/{name}", os.path.join(_PACKAGE, name)) for name in _sources(flavor)]
    image.add(f"{_PYTHON}.bundle", bundle.build(sources, checked=False))
    for name, data in _compiled():
        image.add(f"{_PYTHON}/rkt/stage1/common/{os.path.basename(compiled.DIRECTORY)}/{name}", data)
    image.write(output, json.dumps(manifest(flavor), separators=(",", ":")).encode())


def _compiled() -> list[tuple[str, bytes]]:
    """System call filters for this machine's architecture; none where its calls are not known."""
    if not container_filter.is_available():
        return []
    programs = zip(container_filter.NAMES, container_filter.compile_programs(), strict=True)
    default = zip(call_filter.DEFAULT_PROGRAMS, call_filter.default_programs(), strict=True)
    return [(call_filter.DEFAULT_TEXT, call_filter.default_text().encode()), *default, *programs]


def manifest(flavor: Flavor) -> dict[str, object]:
    """The image manifest of a flavor."""
    machine = platform.machine()
    return {
        "acKind": "ImageManifest",
        "acVersion": APPC_VERSION,
        "name": f"{_PREFIX}-{flavor.name}",
        "labels": [
            {"name": "version", "value": VERSION},
            {"name": "arch", "value": _ARCHITECTURES.get(machine, machine)},
            {"name": "os", "value": "linux"},
        ],
        "annotations": flavor.annotations,
    }


def _sources(flavor: Flavor) -> list[str]:
    """The source files, relative to the package, that an image of this flavor carries."""
    found = ["__init__.py", "bundle.py", "errors.py", "stage1/__init__.py"]
    packages = ["appc", "linux", "network", "stage1/common"]
    for package in [*packages, *(f"stage1/{name}" for name in flavor.packages)]:
        for parent, directories, names in os.walk(os.path.join(_PACKAGE, package)):
            directories[:] = sorted(name for name in directories if name != "__pycache__")
            relative = os.path.relpath(parent, _PACKAGE)
            found.extend(f"{relative}/{name}" for name in sorted(names) if name.endswith(".py"))
    return found


def _add_module(image: _Image, name: str) -> None:
    path = f"{_PYTHON}/rkt/{name}"
    with open(os.path.join(_PACKAGE, name), "rb") as file:
        source = file.read()
    # The name in tracebacks must not depend on where the image was built or is mounted.
    code = compile(source, f"rkt/{name}", "exec", dont_inherit=True)
    cached = os.path.basename(importlib.util.cache_from_source(name))
    image.add(path, source)
    # PEP 552: flag 1 is a hash instead of a time, without flag 2 nobody compares it.
    header = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(source)
    image.add(f"{os.path.dirname(path)}/__pycache__/{cached}", header + marshal.dumps(code))


def main(argv: list[str]) -> int:
    """The command line: both options are needed."""
    options = dict(word.removeprefix("--").split("=", 1) for word in argv[1:] if "=" in word)
    if set(options) != {"flavor", "output"} or options["flavor"] not in FLAVORS:
        sys.stderr.write("usage: python3 -m rkt.stage1.build --flavor=host|fly --output=FILE\n")
        return 2
    build(FLAVORS[options["flavor"]](), options["output"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
