"""``rkt completion bash``: a script made from the option table.

The script is data and a few functions: for every command its flags, what the values of flags are, and what
its words are.  Completing runs rkt only for the names of pods and images.
"""

from __future__ import annotations

from rkt.cli import options
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.cli.call import Call
    from rkt.cli.options import Option

POD_STATES = {
    "pod": "",
    "prepared pod": "prepared",
    "running pod": "running",
    "exited pod": "exited",
    "ended pod": "exited|prepare",
}
"""What of a line of ``rkt list`` must match for its pod to be offered."""

SCRIPT = r"""# Completion of rkt for bash; made by "rkt completion bash".

__rkt_options() {
    case "$1" in
@OPTIONS@
    esac
}

__rkt_words() {
    case "$1" in
@WORDS@
    esac
}

__rkt_value() {
    case "$1" in
@VALUES@
    esac
}

__rkt_reply() {
    COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

# What rkt prints comes from other people's images: only plain words may get into a command line.
__rkt_names() {
    "${COMP_WORDS[0]}" "$@" --no-legend 2>/dev/null | tr -s '\t' '\n' | cut -d: -f1 |
        grep -Ex '[A-Za-z0-9._~/-]+'
}

__rkt_complete() {
    local what=$1
    case "$what" in
        file | directory)
            compopt -o filenames 2>/dev/null
            COMPREPLY=($(compgen -A "$what" -- "$cur"))
            ;;
        pods:*) __rkt_reply "$("${COMP_WORDS[0]}" list --no-legend 2>/dev/null |
            grep -E "${what#pods:}" | cut -f1 | grep -Ex '[0-9a-f]+')" ;;
        images) __rkt_reply "$(__rkt_names image list --fields=id,name)" ;;
        images-and-files)
            __rkt_complete images
            COMPREPLY+=($(compgen -f -- "$cur"))
            ;;
        words:*) __rkt_reply "${what#words:}" ;;
    esac
}

_rkt() {
    local cur command="" word index previous
    COMPREPLY=()
    # "=" is a word of its own here (COMP_WORDBREAKS); what is completed may stand behind it.
    cur=${COMP_WORDS[COMP_CWORD]}
    previous=${COMP_WORDS[COMP_CWORD - 1]}
    if [[ $cur == "=" ]]; then
        previous="$previous" cur=""
    elif [[ $previous == "=" ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $previous == --* && -n $(__rkt_value "$previous") ]]; then
        :
    else
        previous=""
    fi
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ -n $(__rkt_options "$command$word") ]]; then
            command="$command$word "
        fi
    done
    command=${command% }
    if [[ $previous == --* ]]; then
        __rkt_complete "$(__rkt_value "$previous")"
    elif [[ $cur == -* ]]; then
        __rkt_reply "$(__rkt_options "$command")"
    else
        __rkt_complete "$(__rkt_words "$command")"
    fi
}

complete -F _rkt rkt
"""


def run(call: Call) -> int:
    if len(call.args) != 1:
        return call.usage()
    if call.args[0] != "bash":
        raise RktError(f"'{call.args[0]}' shell is not supported")
    call.print(script())
    return 0


def script() -> str:
    """The script for bash."""
    top: list[str] = []
    members: dict[str, list[str]] = {"": top}
    flags: dict[str, str] = {"": spellings(options.GLOBALS)}
    words: dict[str, str] = {}
    values: dict[str, str] = {}
    learn(values, options.GLOBALS)
    for entry in options.listed():
        group, _, name = entry.path.rpartition(" ")
        members[group].append(name)
        if not entry.module:
            members[entry.path] = []
            flags[entry.path] = flags[""]
            continue
        command = options.load(entry)
        flags[entry.path] = spellings((*command.options, *options.GLOBALS))
        words[entry.path] = sort_of(command.completes)
        learn(values, command.options)
    for group, names in members.items():
        words[group] = "words:" + " ".join(names)
    words["help"] = words[""]
    return (
        SCRIPT.replace("@OPTIONS@", cases(flags))
        .replace("@WORDS@", cases(words))
        .replace("@VALUES@", cases(values))
    )


def spellings(table: Iterable[Option]) -> str:
    """The flags as they are written, ``--help`` included."""
    return " ".join(sorted({"--" + option.name for option in table if option.shown} | {"--help"}))


def learn(values: dict[str, str], table: Iterable[Option]) -> None:
    """Adds what the values of flags are, for those that can be completed."""
    for option in table:
        if option.choices:
            values["--" + option.name] = "words:" + " ".join(option.choices)
        elif option.completes or (not option.bare and option.shown):
            values["--" + option.name] = sort_of(option.completes) or "anything"


def sort_of(completes: str) -> str:
    """What the script calls a sort of words."""
    if completes in POD_STATES:
        return "pods:" + POD_STATES[completes]
    return {
        "image": "images",
        "image or file": "images-and-files",
        "shell": "words:bash",
        "policy": "words:never new update",
    }.get(completes, completes)


def cases(table: dict[str, str]) -> str:
    """Branches of a ``case``, names with the same answer together."""
    together: dict[str, list[str]] = {}
    for name in sorted(table):
        if table[name]:
            together.setdefault(table[name], []).append(f'"{name}"')
    return "\n".join(
        f"        {' | '.join(names)}) echo {quoted(text)} ;;" for text, names in together.items()
    )


def quoted(text: str) -> str:
    """A word for the shell, for texts without quotes."""
    return f"'{text}'"
