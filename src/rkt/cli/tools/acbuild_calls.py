"""How a command of acbuild is carried out: on the build of the work path, on an image file, in a script."""

from __future__ import annotations

import os

from rkt.build.acbuild.context import Context
from rkt.cli.tools import acbuild_steps as steps
from rkt.cli.tools.program import MisuseError, parse
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.tools.program import ToolCall

_NO_OCI = "OCI images cannot be built by this version: build an appc image"


def execute(call: ToolCall) -> int:
    """Every command of acbuild begins here; its exit code."""
    path = call.command.path
    if call.flags["modify-oci"] or path in ("layer", "set-tag"):
        raise RktError(_NO_OCI)
    image: str = call.flags["modify-appc"]
    if path in steps.PLAIN:
        if image and path == "cat-manifest":
            return _print_manifest(call, image)
        if image:
            raise MisuseError(f"can't use the --modify-appc flag with {path}")
        return steps.PLAIN[path](call)
    if path == "script":
        if image:
            raise MisuseError("can't use the --modify-appc flag with script")
        return script(call)
    if image:
        return modify(call, image)
    return perform(call, call.flags["work-path"])


def perform(call: ToolCall, work_path: str) -> int:
    """One step of a build, with the annotation that tells it."""
    with Context.open(work_path) as context:
        status = steps.STEPS[call.command.path](call, context)
        if status == 0:
            if not call.flags["no-history"]:
                _note(call, context)
            context.save()
        return status


def _note(call: ToolCall, context: Context) -> None:
    from rkt.build.acbuild import history
    from rkt.cli.output import quote

    words = [quote(word) for word in call.args]
    history.add(context.manifest, " ".join(["acbuild", call.command.path, *words]))


def modify(call: ToolCall, image: str) -> int:
    """One step on an image file, which is replaced by what comes out; a step that fails changes nothing."""
    import tempfile

    from rkt.build.acbuild import start, writing

    if not os.path.exists(image):
        raise RktError(f"ACI doesn't appear to exist: {image}")
    if os.path.isdir(image):
        raise RktError(f"ACI to modify is a directory: {image}")
    with tempfile.TemporaryDirectory(prefix="acbuild-") as work_path:
        sources = steps.sources(call)
        start.begin(work_path, os.path.abspath(image), sources, call.say)
        status = perform(call, work_path)
        if status == 0:
            with Context.open(work_path) as context:
                writing.write(context, image, sources, overwrite=True, notify=call.say)
        return status


def _print_manifest(call: ToolCall, image: str) -> int:
    from rkt.appc.image import ImageManifest
    from rkt.build import images

    return steps.print_manifest(call, ImageManifest.decode(images.read_manifest(image)))


_NESTED = "ACBUILD_NESTED_SCRIPT"


def script(call: ToolCall) -> int:
    """Run a script in a build of its own; a script that is called by one goes on with its caller's."""
    import tempfile

    from rkt.build.acbuild import script as scripts

    call.require(1)
    with open(call.args[0], encoding="utf-8", errors="surrogateescape") as file:
        commands = scripts.parse(file.read())
    if any(words[0] == "run" for words in commands) and os.geteuid() != 0:
        raise RktError("scripts using the run subcommand must be run as root")
    work_path = os.environ.get(_NESTED, "")
    if work_path:
        return _run_script(call, commands, work_path)
    with tempfile.TemporaryDirectory(prefix="acbuild-") as work_path:
        os.environ[_NESTED] = work_path
        try:
            return _run_script(call, commands, work_path)
        finally:
            del os.environ[_NESTED]


def _run_script(call: ToolCall, commands: list[list[str]], work_path: str) -> int:
    from rkt.cli.tools import main

    given = [f"--work-path={work_path}"]
    given += [f"--{name}" for name in ("debug", "no-history") if call.flags[name]]
    for words in commands:
        call.debug(f"script: {' '.join(words)}")
        inner: ToolCall | None = None
        try:
            inner = parse(call.program, [*given, *words])
            status = main.run(inner)
            inner.flush()
        except Exception as error:
            status = main.report(call.program, error, inner, debug=call.globals.debug)
        if status:
            call.say(f"script: {call.args[0]}: {' '.join(words)} failed with exit code {status}")
            return status
    return 0
