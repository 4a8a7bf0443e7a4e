"""Debian's docker-registry on the loopback interface, with and without TLS and passwords."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import urllib.request
from typing import Any

from support import web
from support.waiting import PATIENCE, until

USER, PASSWORD = "alice", "geheim:mit Doppelpunkt"


class Registry:
    """A registry of its own; a context manager.  ``host`` is ``127.0.0.1:PORT``."""

    def __init__(self, directory: str, *, tls: bool = False, password: bool = False) -> None:
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        self.authority = ""
        http: dict[str, Any] = {"secret": "tests"}
        if tls:
            self.authority, certificate, key = web.make_certificates(os.path.join(directory, "tls"))
            http["tls"] = {"certificate": certificate, "key": key}
        storage = {
            "filesystem": {"rootdirectory": os.path.join(directory, "data")},
            "delete": {"enabled": True},
        }
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": storage,
            "http": http,
        }
        if password:
            secret = os.path.join(directory, "htpasswd")
            with open(secret, "w") as file:
                file.write(f"{USER}:{_bcrypt(PASSWORD)}\n")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": secret}}
        self.log = os.path.join(directory, "log")
        self.tls, self.password = tls, password
        # It takes no listening socket, and another program may be faster to take the port that was free.
        while not self._start(config):
            pass

    def _start(self, config: dict[str, Any]) -> bool:
        """Start it on a port that is free now; whether it has got that port."""
        self.host = config["http"]["addr"] = f"127.0.0.1:{_free_port()}"
        path = os.path.join(self.directory, "config.yml")
        with open(path, "w") as file:
            json.dump(config, file)  # JSON is YAML
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", path], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        until(lambda: "listening on " in self._said() or self._process.poll() is not None, "no registry")
        if self._process.poll() is None:
            return True
        assert "address already in use" in self._said(), self._said()
        return False

    def _said(self) -> str:
        with open(self.log, errors="replace") as file:
            return file.read()

    @property
    def environment(self) -> dict[str, str]:
        return {"SSL_CERT_FILE": self.authority} if self.tls else {}

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def _ask(self, request: urllib.request.Request) -> Any:
        context = ssl.create_default_context(cafile=self.authority) if self.tls else None
        return urllib.request.urlopen(request, timeout=PATIENCE, context=context)

    def push(self, source: str, name: str, *words: str) -> None:
        """Copy an image with skopeo: ``source`` in its words, ``name`` as ``team/app:1``."""
        command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", *words]
        if self.password:
            command.append(f"--dest-creds={USER}:{PASSWORD}")
        run([*command, source, f"docker://{self.host}/{name}"])

    def put(self, path: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        """PUT to the registry's own interface, for what no tool would push."""
        url = path if path.startswith("http") else f"{self.url}/v2/{path}"
        request = urllib.request.Request(url, data, {"Content-Type": media_type}, method="PUT")
        with self._ask(request) as answer:
            assert answer.status in (201, 202), answer.status

    def blob(self, repository: str, data: bytes) -> dict[str, Any]:
        """Store a blob; its digest and size."""
        from support.oci import digest

        start = urllib.request.Request(f"{self.url}/v2/{repository}/blobs/uploads/", b"", {}, method="POST")
        with self._ask(start) as answer:
            location = answer.headers["Location"]
        self.put(f"{location}&digest={digest(data)}", data)
        return {"digest": digest(data), "size": len(data)}

    def requests(self, word: str) -> list[str]:
        """Lines of the log about requests with ``word`` in them."""
        with open(self.log, errors="replace") as file:
            return [
                line
                for line in file
                if "http.request.uri" in line and "response completed" in line and word in line
            ]

    def stored(self, digest: str) -> str:
        """The file in which the registry keeps a blob."""
        algorithm, _, digits = digest.partition(":")
        base = os.path.join(self.directory, "data/docker/registry/v2/blobs")
        return os.path.join(base, algorithm, digits[:2], digits, "data")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bcrypt(password: str) -> str:
    """The only kind of hash the registry knows, by the C library's crypt(3)."""
    import ctypes

    function = ctypes.CDLL("libcrypt.so.1").crypt
    function.restype = ctypes.c_char_p
    made: bytes = function(password.encode(), b"$2y$05$abcdefghijklmnopqrstuu")
    return made.decode()


def run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, **options)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
