"""Ends what a failed test has left on a host, so that the next one finds the host as it was booted."""

from __future__ import annotations

import sys

from host_pods import SECONDS, rkt

from support import hosts

DIRECTORIES = ("/var/lib/rkt", "/var/lib/rkt/other")
# systemd's own units come and go as they are needed.
KEPT = ("systemd-", "user@", "user-runtime-dir@", "dbus", "modprobe@")
KINDS = (".service", ".socket", ".timer", ".path")


class Recovery:
    """Made when the host has just been booted."""

    def __init__(self, host: hosts.Host) -> None:
        self.host = host
        self.units = self._units()

    def _units(self) -> set[str]:
        words = ["systemctl", "list-units", "--plain", "--no-legend", "--no-pager"]
        listed = {line.split()[0] for line in self.host.ok(words).lines if line.strip()}
        return {name for name in listed if name.endswith(KINDS) and not name.startswith(KEPT)}

    def recover(self) -> None:
        """Do what can be done; what goes wrong is for the next test to find, and said."""
        try:
            if self.host.is_running:
                self._end_units()
                self._end_pods()
        except (hosts.HostError, TimeoutError, AssertionError) as error:
            sys.stderr.write(f"what a failed test left on the {self.host.description} stays: {error}\n")

    def _end_units(self) -> None:
        left = sorted(self._units() - self.units)
        if left:
            self.host.run(["systemctl", "stop", *left], SECONDS)
        self.host.run(["systemctl", "reset-failed"])

    def _end_pods(self) -> None:
        for directory in DIRECTORIES:
            if self.host.run(["test", "-e", f"{directory}/pods"]).code:
                continue
            where = f"--dir={directory}"
            for line in rkt(self.host, where, "list", "--full", "--no-legend").lines:
                uuid, *cells = line.split("\t")
                if "running" in cells:
                    rkt(self.host, where, "stop", "--force", uuid)
                    rkt(self.host, where, "status", "--wait=60s", uuid)
        for process in self.host.started:
            process.kill()
        self.host.started.clear()
        for directory in DIRECTORIES:
            for _ in range(2):
                rkt(self.host, f"--dir={directory}", "gc", "--grace-period=0s", "--expire-prepared=0s")
