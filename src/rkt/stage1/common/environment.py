"""An app's environment, and the file ``/rkt/env/APP`` that systemd, ``enter`` and fly read it from.

The file has one ``NAME=value`` a line in the syntax of systemd's ``EnvironmentFile=`` (systemd.exec(5)).
Values that need it stand in double quotes, inside which only ``"``, ``\\``, backquote and ``$`` are
escaped; a newline stands for itself.
"""

from __future__ import annotations

from rkt.errors import RktError

DEFAULTS = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("SHELL", "/bin/sh"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("HOME", "/root"),
)

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=@%+,-~^")
_ESCAPED = '"\\`$'


def complete(
    variables: list[tuple[str, str]], app: str, *, metadata_url: str = "", container: str = "rkt"
) -> list[tuple[str, str]]:
    """The variables of the manifest over rkt's defaults, with AC_APP_NAME and AC_METADATA_URL set.

    appc specification, "execution environment": the app's own values win over the defaults, the
    names by which it finds itself do not.
    """
    values = dict(DEFAULTS)
    values["container"] = container
    values.update(variables)
    values["AC_APP_NAME"] = app
    if metadata_url:
        values["AC_METADATA_URL"] = metadata_url
    for name, value in values.items():
        if "\0" in name or "\0" in value:
            raise RktError(f'app "{app}": environment variable "{name}" contains a NUL')
        if not name or "=" in name or "\n" in name:
            raise RktError(f'app "{app}": "{name}" is no name of an environment variable')
    return list(values.items())


def encode(variables: list[tuple[str, str]]) -> bytes:
    """The environment file of these variables."""
    return "".join(f"{name}={_quote(value)}\n" for name, value in variables).encode("utf-8", "replace")


def _quote(value: str) -> str:
    if all(letter in _PLAIN for letter in value):
        return value
    return '"' + "".join("\\" + letter if letter in _ESCAPED else letter for letter in value) + '"'


def decode(data: bytes) -> list[tuple[str, str]]:
    """The variables of an environment file written by ``encode`` (or by rkt 1.30: plain lines)."""
    text = data.decode("utf-8", "replace")
    variables = []
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        name, equals, rest = text[position:end].partition("=")
        if not equals:
            position = end + 1
            continue
        if rest.startswith('"'):
            value, position = _unquote(text, position + len(name) + 2)
        else:
            value, position = rest, end + 1
        variables.append((name, value))
    return variables


def _unquote(text: str, position: int) -> tuple[str, int]:
    """The value whose first letter after the quote is at ``position``, and where the next line begins."""
    letters = []
    while position < len(text) and text[position] != '"':
        if text[position] == "\\" and text[position + 1 : position + 2] in tuple(_ESCAPED):
            position += 1
        letters.append(text[position])
        position += 1
    return "".join(letters), position + 2
