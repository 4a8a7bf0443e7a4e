"""Settings of other tools: registries.conf, certs.d, registries.d, auth.json, config.json, helpers."""

from __future__ import annotations

import base64
import json
import os

import pytest

from rkt.config.kinds import Basic
from rkt.errors import RktError
from rkt.image.oci import authentication, credentials, lookaside, names, registries


@pytest.fixture
def home(tmp_path: os.PathLike[str]) -> str:
    return os.fspath(tmp_path)


def write(path: str, text: str, mode: int = 0o644) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


class TestRegistriesConf:
    def endpoints(self, home: str, text: str, image: str) -> list[str]:
        path = write(f"{home}/registries.conf", text)
        found = registries.load({"CONTAINERS_REGISTRIES_CONF": path}).endpoints(names.parse(image))
        return [f"{endpoint}{' insecure' if endpoint.insecure else ''}" for endpoint in found]

    def test_without_settings(self, home: str) -> None:
        assert self.endpoints(home, "", "busybox") == ["registry-1.docker.io/library/busybox"]

    def test_longest_prefix_moves(self, home: str) -> None:
        text = """
            [[registry]]
            prefix = "a.example"
            location = "one.example"
            [[registry]]
            prefix = "a.example/team"
            location = "two.example:5000/x"
            insecure = true
        """
        assert self.endpoints(home, text, "a.example/other/app") == ["one.example/other/app"]
        assert self.endpoints(home, text, "a.example/team/app") == ["two.example:5000/x/app insecure"]
        assert self.endpoints(home, text, "a.example/teamwork") == ["one.example/teamwork"]
        assert self.endpoints(home, text, "b.a.example/team") == ["b.a.example/team"]

    def test_mirrors(self, home: str) -> None:
        text = """
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "all.example/hub"
            [[registry.mirror]]
            location = "digest.example"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "tag.example"
            pull-from-mirror = "tag-only"
            insecure = true
        """
        main = "registry-1.docker.io/library/a"
        assert self.endpoints(home, text, "a:v1") == [
            "all.example/hub/library/a",
            "tag.example/library/a insecure",
            main,
        ]
        digest = "a@sha256:" + "0" * 64
        assert self.endpoints(home, text, digest) == [
            "all.example/hub/library/a",
            "digest.example/library/a",
            main,
        ]

    def test_wildcard_and_blocked(self, home: str) -> None:
        text = '[[registry]]\nprefix = "*.example"\nblocked = true\n'
        with pytest.raises(RktError, match="blocked"):
            self.endpoints(home, text, "a.b.example:5000/x")
        assert self.endpoints(home, text, "example.com/x") == ["example.com/x"]

    @pytest.mark.parametrize(
        "text",
        [
            "[registries.search]\nregistries = []",
            "[[registry]]\nblocked = true",
            "[[registry]]\nlocation = 5",
            "registry = 5",
            "[[registry]",
            '[[registry]]\nprefix = "a.example"\nlocation = ["x"]',
        ],
    )
    def test_damaged(self, home: str, text: str) -> None:
        with pytest.raises(RktError):
            self.endpoints(home, text, "a.example/x")

    def test_certificates(self, home: str) -> None:
        base = f"{home}/.config/containers/certs.d/a.example:5000"
        for name in ("ca.crt", "client.cert", "client.key"):
            write(f"{base}/{name}", "")
        tls = registries.certificates("a.example:5000", {"HOME": home})
        assert tls is not None
        assert tls.authorities == (f"{base}/ca.crt",)
        assert (tls.certificate, tls.key) == (f"{base}/client.cert", f"{base}/client.key")
        assert registries.certificates("a.example", {"HOME": home}) is None
        os.unlink(f"{base}/client.key")
        with pytest.raises(RktError, match=r"has no client\.key"):
            registries.certificates("a.example:5000", {"HOME": home})


class TestCredentials:
    def find(
        self, home: str, host: str = "a.example", repository: str = "team/app"
    ) -> tuple[str, str] | None:
        found = credentials.find(host, repository, {}, {"HOME": home, "PATH": f"{home}/bin:/usr/bin:/bin"})
        return (found.user, found.password or found.identity_token) if found else None

    def auth(self, text: str) -> dict[str, str]:
        return {"auth": base64.b64encode(text.encode()).decode()}

    def docker(self, home: str, value: object) -> None:
        write(f"{home}/.docker/config.json", json.dumps(value))

    def test_own_configuration_first(self, home: str) -> None:
        self.docker(home, {"auths": {"a.example": self.auth("u:p")}})
        found = credentials.find("a.example", "x", {"a.example": Basic("own", "secret")}, {"HOME": home})
        assert found is not None and (found.user, found.password) == ("own", "secret")

    def test_keys_of_files(self, home: str) -> None:
        auths = {
            "https://a.example/v1/": self.auth("host:p"),
            "b.example/team": self.auth("team:p:q"),
            "b.example": self.auth("b:p\0\0"),
            "https://index.docker.io/v1/": self.auth("hub:p"),
        }
        self.docker(home, {"auths": auths})
        assert self.find(home) == ("host", "p")
        assert self.find(home, "b.example", "team/app") == ("team", "p:q")
        assert self.find(home, "b.example", "teams/app") == ("b", "p")
        assert self.find(home, names.DOCKER_HUB, "library/x") == ("hub", "p")
        assert self.find(home, "c.example") is None
        assert self.find(home, "a.example.evil") is None

    def test_auth_json_before_config_json(self, home: str) -> None:
        self.docker(home, {"auths": {"a.example": self.auth("docker:p")}})
        write(f"{home}/.config/containers/auth.json", json.dumps({"auths": {"a.example": self.auth("c:p")}}))
        assert self.find(home) == ("c", "p")

    def test_identity_token(self, home: str) -> None:
        self.docker(home, {"auths": {"a.example": {"identitytoken": "token"}}})
        assert self.find(home) == ("", "token")

    def test_helpers(self, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = '{"Username":"helped","Secret":"s"}'
        script = (
            f"#!/bin/sh\nread s; [ $s = a.example ] && echo '{answers}' && exit; echo not found; exit 1\n"
        )
        write(f"{home}/bin/docker-credential-one", script, 0o755)
        monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
        self.docker(home, {"credsStore": "one"})
        assert self.find(home) == ("helped", "s")
        assert self.find(home, "b.example") is None
        self.docker(home, {"credHelpers": {"b.example": "none-such"}, "credsStore": "one"})
        with pytest.raises(RktError) as caught:
            self.find(home, "b.example")
        assert "docker-credential-none-such is not installed" in str(caught.value.__cause__)

    @pytest.mark.parametrize(
        "value",
        [
            {"credsStore": "../../bin/sh"},
            {"credsStore": 5},
            {"auths": []},
            {"auths": {"a.example": {"auth": "!!!"}}},
            {"auths": {"a.example": {"auth": 5}}},
        ],
    )
    def test_damaged(self, home: str, value: object) -> None:
        self.docker(home, value)
        try:
            assert self.find(home) is None
        except RktError as error:
            assert "config.json" in str(error)

    def test_empty_file(self, home: str) -> None:
        write(f"{home}/.docker/config.json", "")
        assert self.find(home) is None


class TestLookaside:
    def base(self, home: str, text: str, image: str = "a.example/team/app:v1") -> str:
        write(f"{home}/.config/containers/registries.d/x.yaml", text)
        return lookaside.find_base(names.parse(image), {"HOME": home})

    def test_longest_part_of_the_name(self, home: str) -> None:
        text = (
            "# comment\n---\ndefault-docker:\n  lookaside: https://default.example/s\n"
            'docker:\n  a.example:\n    sigstore: "file:///one"  # old word\n'
            "  a.example/team/app:\n    use-sigstore-attachments: true\n    lookaside: 'https://two'\n"
            '  "b.example:5000/x":\n    lookaside: https://three\n'
        )
        assert self.base(home, text) == "https://two"
        assert self.base(home, text, "a.example/other") == "file:///one"
        assert self.base(home, text, "b.example:5000/x/y") == "https://three"
        assert self.base(home, text, "c.example/y") == "https://default.example/s"

    def test_nothing_configured(self, home: str) -> None:
        assert self.base(home, "") == ""

    @pytest.mark.parametrize(
        "text",
        [
            "docker:\n  - a\n",
            "docker: [a, b]\n",
            "docker: &x\n",
            "docker:\n\ta: b\n",
            "a: b\na: c\n",
            "a:\n    b: c\n  d: e\n",
            "just words\n",
        ],
    )
    def test_what_is_not_understood(self, home: str, text: str) -> None:
        with pytest.raises(RktError, match="line"):
            self.base(home, text)


@pytest.mark.parametrize(
    ("text", "kind", "parameters"),
    [
        (
            'Bearer realm="https://a/t?x=1,2",service="s p",scope="repository:a:pull,push"',
            "bearer",
            {"realm": "https://a/t?x=1,2", "service": "s p", "scope": "repository:a:pull,push"},
        ),
        ("Basic realm=tests", "basic", {"realm": "tests"}),
        ('BEARER Realm="a\\"b" , service=x', "bearer", {"realm": 'a"b', "service": "x"}),
        ('Bearer realm="cut', "bearer", {"realm": "cut"}),
        ("", "", {}),
        ("Negotiate", "negotiate", {}),
    ],
)
def test_challenges(text: str, kind: str, parameters: dict[str, str]) -> None:
    assert authentication.parse_challenge(text) == (kind, parameters)
