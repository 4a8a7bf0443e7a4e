"""The command lines of the entry points: interface versions 1 to 6 of rkt's stage1.

Go's flag syntax, because that is what every stage0 speaks: one dash or two, ``--name=value`` or
``--name value``, booleans without a value, everything after the first other word is an argument.
"""

from __future__ import annotations

from rkt.errors import RktError

_BOOLEANS = {
    "1": True, "t": True, "T": True, "true": True, "TRUE": True, "True": True,
    "0": False, "f": False, "F": False, "false": False, "FALSE": False, "False": False,
}  # fmt: skip

RUN: dict[str, bool | str] = {
    "debug": False,
    "net": "",
    "interactive": False,
    "private-users": "",
    "mds-token": "",
    "local-config": "/etc/rkt",
    "hostname": "",
    "disable-capabilities-restriction": False,
    "disable-paths": False,
    "disable-seccomp": False,
    "dns-conf-mode": "resolv=default,hosts=default",
    "mutable": False,
    "ipc": "",
}
"""Every flag of ``run`` with its default; a boolean default makes a boolean flag."""

ENTER: dict[str, bool | str] = {"pid": "", "appname": ""}
ATTACH: dict[str, bool | str] = {
    "action": "list",
    "app": "",
    "debug": False,
    "tty-in": False,
    "tty-out": False,
    "stdin": False,
    "stdout": False,
    "stderr": False,
}
GC: dict[str, bool | str] = {"debug": False, "local-config": "/etc/rkt"}
STOP: dict[str, bool | str] = {"debug": False, "force": False}


def parse(
    words: list[str], table: dict[str, bool | str]
) -> tuple[dict[str, bool | str], list[str], set[str]]:
    """Values by flag name, the arguments, and the names that were given.

    ``table`` holds the accepted flags and their defaults.  RktError as Go words it, for instance
    ``flag provided but not defined: -x``.
    """
    values = dict(table)
    given: set[str] = set()
    position = 0
    while position < len(words):
        word = words[position]
        if len(word) < 2 or word[0] != "-":
            break
        position += 1
        if word == "--":
            break
        name, equals, text = word[2 if word.startswith("--") else 1 :].partition("=")
        if not name or name[0] in "-=":
            raise RktError(f"bad flag syntax: {word}")
        if name not in table:
            raise RktError(f"flag provided but not defined: -{name}")
        if isinstance(table[name], bool):
            values[name] = _boolean(name, text) if equals else True
        else:
            if not equals:
                if position == len(words):
                    raise RktError(f"flag needs an argument: -{name}")
                text = words[position]
                position += 1
            # --net may be given several times; its lists follow each other.
            values[name] = f"{values[name]},{text}" if name == "net" and name in given else text
        given.add(name)
    return values, words[position:], given


def _boolean(name: str, text: str) -> bool:
    try:
        return _BOOLEANS[text]
    except KeyError:
        raise RktError(f'invalid boolean value "{text}" for -{name}: invalid syntax') from None


class RunFlags:
    """The flags of ``run``.

    ``net`` is the list as given ("" for none given), ``resolv`` and ``hosts`` the two modes of
    ``--dns-conf-mode``, ``given`` the names that stood on the command line.
    """

    __slots__ = (
        "debug",
        "disable_capabilities",
        "disable_paths",
        "disable_seccomp",
        "given",
        "hostname",
        "hosts",
        "interactive",
        "ipc",
        "local_config",
        "mds_token",
        "mutable",
        "net",
        "private_users",
        "resolv",
        "uuid",
    )

    def __init__(self, values: dict[str, bool | str], arguments: list[str], given: set[str]) -> None:
        if len(arguments) != 1:
            raise RktError("a pod UUID is required" if not arguments else "only one pod UUID is expected")
        text = {name: value for name, value in values.items() if isinstance(value, str)}
        self.uuid = arguments[0]
        self.given = given
        self.debug = values.get("debug") is True
        self.interactive = values.get("interactive") is True
        self.mutable = values.get("mutable") is True
        self.disable_capabilities = values.get("disable-capabilities-restriction") is True
        self.disable_paths = values.get("disable-paths") is True
        self.disable_seccomp = values.get("disable-seccomp") is True
        self.net = text.get("net", "")
        self.private_users = text.get("private-users", "")
        self.mds_token = text.get("mds-token", "")
        self.local_config = text.get("local-config", "/etc/rkt")
        self.hostname = text.get("hostname", "")
        self.ipc = text.get("ipc", "")
        self.resolv, self.hosts = dns_modes(text.get("dns-conf-mode", ""))
        if self.ipc not in ("", "auto", "private", "parent"):
            raise RktError(f'invalid value "{self.ipc}" for -ipc: must be auto, private or parent')


def run_flags(words: list[str], without: tuple[str, ...] = ()) -> RunFlags:
    """Parse the command line of ``run``; ``without`` names flags that the flavor does not know."""
    table = {name: value for name, value in RUN.items() if name not in without}
    return RunFlags(*parse(words, table))


def dns_modes(text: str) -> tuple[str, str]:
    """The modes of ``resolv=MODE,hosts=MODE``, each ``default`` when absent."""
    modes = {"resolv": "default", "hosts": "default"}
    allowed = {
        "resolv": ("host", "stage0", "none", "default"),
        "hosts": ("host", "stage0", "default"),
    }
    for pair in filter(None, text.split(",")):
        name, equals, mode = pair.partition("=")
        if not equals or mode not in allowed.get(name, ()):
            raise RktError(f'invalid value "{text}" for -dns-conf-mode: unknown setting "{pair}"')
        modes[name] = mode
    return modes["resolv"], modes["hosts"]
