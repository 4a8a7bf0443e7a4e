"""Fuzzes one target, guided by coverage; started by tools/fuzz and by the tests, for it ends its process.

usage: run.py TARGET [--runs=N] [--seconds=N] [--seed=N] [--corpus=DIRECTORY] [--findings=DIRECTORY]

With ``--runs`` and ``--seed`` alone a run repeats itself.  With a corpus what was new is kept there and a
later run goes on from it.  An input that shows something wrong is left below ``--findings``, and the exit
status is not 0.
"""

from __future__ import annotations

import os
import sys
import tempfile

import atheris

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
for path in ("build/deps", "tests", "src"):
    sys.path.insert(0, os.path.join(ROOT, path))

INSTRUMENTED = ["rkt", "html", "_markupbase", "tomllib"]
INPUT_SECONDS = 20
MEMORY_MIB = 1024


def main(arguments: list[str]) -> int:
    words = [word for word in arguments if not word.startswith("--")]
    options = dict(word.removeprefix("--").split("=", 1) for word in arguments if word.startswith("--"))
    if len(words) != 1 or set(options) - {"runs", "seconds", "seed", "corpus", "findings"}:
        print(__doc__, file=sys.stderr)
        return 2
    # Modules that are imported when they are needed count too: the hook stays as long as the process.
    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz.targets import TARGETS

        if words[0] not in TARGETS:
            print(f"no target {words[0]}; there are: {' '.join(TARGETS)}", file=sys.stderr)
            return 2
        target = TARGETS[words[0]]
        with tempfile.TemporaryDirectory(prefix="rkt-fuzz-") as scratch:
            argv = [sys.argv[0], *_settings(target, options, scratch)]
            child = os.fork()
            if not child:
                atheris.Setup(argv, target)
                atheris.Fuzz()  # ends the process by itself
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def _settings(target: object, options: dict[str, str], scratch: str) -> list[str]:
    """What libFuzzer is told; what is written here is read before the first input."""
    from fuzz.target import Target

    assert isinstance(target, Target)
    seeds = os.path.join(scratch, "seeds")
    os.mkdir(seeds)
    for number, seed in enumerate(target.seeds()):
        with open(os.path.join(seeds, f"{number:03}"), "wb") as file:
            file.write(seed)
    findings = options.get("findings") or os.path.join(scratch, "findings")
    os.makedirs(findings, exist_ok=True)
    made = [
        f"-seed={options.get('seed', '1')}",
        f"-max_len={target.longest}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={findings}/{target.name}-",
        "-len_control=0",
    ]
    if target.words:
        dictionary = os.path.join(scratch, "words")
        with open(dictionary, "w") as file:
            file.writelines('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words)
        made.append(f"-dict={dictionary}")
    if "seconds" in options:
        made.append(f"-max_total_time={options['seconds']}")
    elif "runs" in options or "corpus" not in options:
        made.append(f"-runs={options.get('runs', target.runs)}")
    if "corpus" in options:
        os.makedirs(options["corpus"], exist_ok=True)
        made.append(options["corpus"])
    return [*made, seeds]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
