"""What the commands about pods share: their UUID arguments, and reporting one failure among several pods."""

from __future__ import annotations

from rkt.errors import RktError
from rkt.pod import lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.pod.pod import Pod


class UUIDFileError(RktError):
    """``--uuid-file`` cannot be read; some commands exit 1 then, not 254."""

    __slots__ = ()


def uuids(call: Call) -> list[str] | None:
    """The pods a command is about: its words, or the content of ``--uuid-file`` when there are none.

    None when neither is given.
    """
    if call.args:
        return call.args
    path = call.flags["uuid-file"]
    if not path:
        return None
    try:
        return [lookup.from_file(path)]
    except (OSError, RktError) as error:
        raise UUIDFileError("unable to resolve UUID from file") from error


def find(call: Call, prefix: str) -> Pod:
    """The pod with this UUID or beginning of it; the caller closes it."""
    try:
        return lookup.find(call.globals.dir, prefix)
    except (RktError, OSError) as error:
        raise RktError("problem retrieving pod") from error


def complain(call: Call, message: str, error: BaseException | None = None) -> None:
    """Print an error that does not end the command."""
    failure = RktError(message)
    failure.__cause__ = error
    report(call, failure)


def report(call: Call, error: BaseException) -> None:
    """Print an error and its cause, each line with the command's name in front."""
    from rkt.cli.output import known

    for line in known(error, debug=call.globals.debug):
        call.error(line)
