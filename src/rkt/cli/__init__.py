"""Words in, words out: the command line.

How to write a command
----------------------
1. Its line in ``COMMANDS`` of ``rkt.cli.options`` (path, module, family, summary) makes it exist.  Its
   options, usage and description are a ``Command`` in the table of its family
   (``rkt.cli.options_<family>``).  Parsing, help and completion all read this one table.
2. ``rkt/cli/<module>.py`` has ``def run(call: Call) -> int`` and returns the exit code.

What ``run`` gets (``rkt.cli.call``)::

    call.args                        positional words
    call.flags["grace-period"]       typed value of an option, its default where it was not given
    call.flags.given("x")            was it written?
    call.images                      ImageWords(image, flags, args, mounts) for run, prepare, fetch, app add
    call.globals.dir                 data directory, absolute, links resolved; also .debug, .insecure, ...
    call.config()                    the layered configuration, read at the first use
    call.pull_policy()               --pull-policy with its deprecated spellings
    call.print(text)                 data: a line on stdout
    call.error(text)                 a line on stderr, prefixed by the command's name
    call.notify("image")(text)       a line on stderr with another prefix, to hand to libraries
    return call.usage()              wrong number of words: usage on stdout, exit code 254
    call.flush()                     before os.execve: nothing buffered may get lost

Failures are raised: ``RktError`` (chained by ``raise ... from``) and ``OSError`` become one line,
``run: message: cause``, and exit code 254 in ``rkt.cli.main``, and nowhere else.  A command imports what it
needs inside ``run`` or at its own top level, never ``typing``, ``re``, ``json`` and the like: the import sets
are fixed by tests/functional/test_imports.py.

Values by option kind: bool -> bool; string -> str; int -> int; duration -> int nanoseconds; wait -> int
nanoseconds (0: do not wait, -1: for ever); directory -> absolute str; list -> list[str]; words -> list[str]
split at commas; pairs -> dict[str, str]; format -> "", "json" or "json-pretty"; choices -> list[str];
insecure -> frozenset[str]; networks -> list[str] (``name`` or ``name:args``); the per-app kinds give the
types of ``rkt.appc``.
"""
