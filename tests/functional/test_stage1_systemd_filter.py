"""The filter around a pod against the one systemd-nspawn would build: call by call, in the kernel."""

from __future__ import annotations

import ast
import errno
import os
import subprocess

import pytest

from rkt.linux import seccomp
from rkt.stage1.common import call_filter
from rkt.stage1.systemd import container_filter

# Runs in a container as pid 1: tries every call with arguments that cannot work, each in a child.
PROBE = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for number in range(480):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.alarm(1)
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        if result == -1:
            os.write(writer, b"%d" % ctypes.get_errno())
        os._exit(0)
    os.close(writer)
    text = os.read(reader, 16)
    os.close(reader)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    found[number] = int(text) if text else 0
print(found)
"""


def probe(directory: str, *, ours: bool, built_in: bool) -> dict[int, int]:
    """errno by call number (0: it did something else) in a container with the capabilities of a pod."""
    root = f"{directory}/root"
    for name in ("usr", "etc", "dev", "proc", "sys", "run", "tmp"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for name in ("bin", "lib", "lib64"):
        if not os.path.islink(f"{root}/{name}"):
            os.symlink(f"usr/{name}", f"{root}/{name}")
    with open(f"{root}/etc/os-release", "w") as file:
        file.write("ID=probe\n")

    def load() -> None:
        if ours:
            for program in container_filter.programs():
                seccomp.load(program)

    done = subprocess.run(
        [
            *("systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit", "--as-pid2"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", f"--directory={root}"),
            *("--bind-ro=/usr", "--console=pipe", "--", "/usr/bin/python3", "-IS", "-c", PROBE),
        ],
        env={"PATH": os.environ["PATH"], "SYSTEMD_SECCOMP": "1" if built_in else "0"},
        preexec_fn=load,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return dict(ast.literal_eval(done.stdout))


@pytest.mark.promise("P5")
def test_no_call_passes_that_nspawn_refuses(tmp_path: object) -> None:
    open_calls = probe(str(tmp_path), ours=False, built_in=False)
    theirs = probe(str(tmp_path), ours=False, built_in=True)
    ours = probe(str(tmp_path), ours=True, built_in=False)
    names = {number: name for name, number in seccomp.table(seccomp.architectures()[0]).items()}
    # a call this kernel does not have says nothing
    known = {number for number, error in open_calls.items() if error != errno.ENOSYS}
    refusals = (errno.EPERM, errno.ENOSYS)
    refused = {n for n in known if theirs[n] in refusals and theirs[n] != open_calls[n]}
    refused_by_us = {number for number in known if ours[number] == errno.ENOSYS}
    assert len(refused) > 10, "the comparison compares nothing"
    passing = {names.get(number, str(number)) for number in refused - refused_by_us}
    # rkt lets apps use these: newer than systemd's C library, or without effect but with a capability.
    assert passing <= call_filter.default_names(), passing
    table = seccomp.table(seccomp.architectures()[0])
    for name in ("kexec_load", "init_module", "bpf", "keyctl", "add_key", "settimeofday", "swapon", "iopl"):
        number = table.get(name)
        assert number not in known or number in refused_by_us, name
