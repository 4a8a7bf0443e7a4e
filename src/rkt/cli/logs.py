"""``rkt logs``: what the apps of a pod have written."""

from __future__ import annotations

import time

from rkt.cli import pods
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.stage0.journal import Entry


def run(call: Call) -> int:
    words = pods.uuids(call)
    if words is None or len(words) != 1:
        return call.usage()
    from rkt.pod import status
    from rkt.stage0 import enter, journal

    lines: int | None = call.flags["lines"] if call.flags.given("lines") else None
    if lines is not None and lines < 0:
        raise RktError(f"--lines is a number of entries, not {lines}")
    since = moment(call.flags["since"], time.time())
    with pods.find(call, words[0]) as pod:
        one = call.flags["app"]
        if one:
            names = [enter.select_app(pod, one)]
        else:
            names = [str(app.get("name", "")) for app in status.apps(pod)]
        follow: bool = call.flags["follow"]
        request = journal.Request(names, others=not one, since=since, lines=lines, follow=follow)
        for entry in journal.read(pod, request):
            for line in show(entry):
                call.print(line)
            if request.follow:
                call.flush()
    return 0


def moment(text: str, now: float) -> str:
    """``--since`` for journalctl: durations and RFC 3339 dates as seconds since 1970, else as it is.

    >>> moment("2001-02-03T04:05:06Z", 0)
    '@981173106'
    """
    from rkt.appc import date
    from rkt.appc.errors import AppcError
    from rkt.cli.values import parse_duration

    if not text:
        return ""
    try:
        return f"@{max(now - parse_duration(text) / 1e9, 0):.6f}"
    except RktError:
        pass
    try:
        when = date.parse(text)
    except AppcError:
        return text
    import calendar

    fields = (when.year, when.month, when.day, when.hour, when.minute, when.second)
    return f"@{max(calendar.timegm(fields) - when.offset * 60, 0)}"


def show(entry: Entry) -> list[str]:
    """Lines for a terminal: ``2006-01-02T15:04:05+0000 app[5]: message``; each of a message has the prefix.

    Whatever could steer the terminal is replaced.
    """
    from rkt.cli.call import CONTROLS

    source = entry.app if entry.identifier == entry.app else f"{entry.app} {entry.identifier}".strip()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(entry.time // 1_000_000))
    prefix = f"{stamp} {source}[{entry.pid}]: ".translate(CONTROLS).replace("\n", "�")
    text = entry.message.decode("utf-8", "replace").translate(CONTROLS)
    return [prefix + line for line in text.split("\n")]
