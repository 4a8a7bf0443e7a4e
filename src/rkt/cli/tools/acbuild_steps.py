"""The commands of acbuild, by path.

``PLAIN`` get the call alone, ``STEPS`` also the build, which is locked, saved afterwards and noted.
"""

from __future__ import annotations

from rkt.build.acbuild import context as contexts
from rkt.build.acbuild import edits
from rkt.build.acbuild.context import Context
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.appc.image import ImageManifest
    from rkt.build.acbuild.sources import Sources
    from rkt.cli.tools.program import ToolCall
    from rkt.image.fetch import Fetcher
    from rkt.store.store import Store


def sources(call: ToolCall) -> Callable[[Context], Sources]:
    """Where images come from for this call, given the build."""

    def make(context: Context) -> Sources:
        from rkt.build.acbuild.sources import Sources

        names = {option.name for option in call.command.options}
        data: str = call.flags["store"] if "store" in names else ""
        insecure = "insecure" in names and bool(call.flags["insecure"])
        return Sources(data or context.data, lambda store: _fetcher(call, store, insecure=insecure))

    return make


def _fetcher(call: ToolCall, store: Store, *, insecure: bool) -> Fetcher:
    from rkt.cli.fetching import network
    from rkt.image.fetch import Fetcher
    from rkt.trust.keystore import Keystore

    settings = call.globals
    return Fetcher(
        store,
        None if insecure else Keystore(settings.system_config, settings.local_config),
        insecure=("image", "http", "tls") if insecure else (),
        notify=call.notify("image"),
        debug=settings.debug,
        render=False,
        network=network(call),
    )


# Commands about the build as a whole


def begin(call: ToolCall) -> int:
    from rkt.build.acbuild import start

    call.require(0, 1)
    mode = call.flags["build-mode"]
    if mode != contexts.MODE:
        if mode == "oci":
            raise RktError("OCI images cannot be built by this version: build an appc image")
        raise RktError(f'unknown build mode "{mode}"')
    start.begin(call.flags["work-path"], "".join(call.args), sources(call), call.say)
    return 0


def end(call: ToolCall) -> int:
    call.require(0)
    contexts.discard(call.flags["work-path"])
    return 0


def write(call: ToolCall) -> int:
    from rkt.build.acbuild import writing

    call.require(1)
    with Context.open(call.flags["work-path"]) as context:
        identity = writing.write(
            context,
            call.args[0],
            sources(call),
            overwrite=call.flags["overwrite"],
            notify=call.say,
        )
    call.print(identity)
    return 0


def cat_manifest(call: ToolCall) -> int:
    call.require(0)
    with Context.open(call.flags["work-path"]) as context:
        return print_manifest(call, context.manifest)


def print_manifest(call: ToolCall, manifest: ImageManifest) -> int:
    call.print(manifest.encode("    " if call.flags["pretty-print"] else None))
    return 0


def version(call: ToolCall) -> int:
    from rkt import VERSION
    from rkt.appc import VERSION as SPECIFICATION

    call.print(f"acbuild version {VERSION}\nappc version {SPECIFICATION}")
    return 0


def show_help(call: ToolCall) -> int:
    from rkt.cli.tools.program import find_command, usage

    found, _ = find_command(call.program, call.args)
    call.print(usage(call.program, found))
    return 0


def generate_man_pages(call: ToolCall) -> int:
    from rkt.cli.tools import manual

    call.require(1)
    manual.write(call.program, call.args[0])
    return 0


# Steps


def annotation_add(call: ToolCall, context: Context) -> int:
    call.require(2)
    edits.add_annotation(context.manifest, *call.args)
    return 0


def annotation_remove(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.remove_annotation(context.manifest, call.args[0])
    return 0


def copy(call: ToolCall, context: Context) -> int:
    from rkt.build.acbuild import copying

    call.require(2)
    copying.copy(context.rootfs, *call.args)
    return 0


def copy_to_directory(call: ToolCall, context: Context) -> int:
    from rkt.build.acbuild import copying

    if len(call.args) < 2:
        call.require(2)
    copying.copy_to_directory(context.rootfs, call.args[:-1], call.args[-1])
    return 0


def dependency_add(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.add_dependency(
        context.manifest,
        call.args[0],
        image_id=call.flags["image-id"],
        label_words=call.flags["label"],
        size=call.flags["size"],
    )
    return 0


def dependency_remove(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.remove_dependency(context.manifest, call.args[0])
    return 0


def environment_add(call: ToolCall, context: Context) -> int:
    call.require(2)
    edits.add_variable(context.manifest, *call.args)
    return 0


def environment_remove(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.remove_variable(context.manifest, call.args[0])
    return 0


def isolator_add(call: ToolCall, context: Context) -> int:
    import sys

    from rkt.appc import gojson

    call.require(2)
    name, path = call.args
    if path == "-":
        text = sys.stdin.read()
    else:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    edits.add_isolator(context.manifest, name, gojson.loads(text))
    return 0


def isolator_remove(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.remove_isolator(context.manifest, call.args[0])
    return 0


def label_add(call: ToolCall, context: Context) -> int:
    call.require(2)
    edits.add_label(context.manifest, *call.args)
    return 0


def label_remove(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.remove_label(context.manifest, call.args[0])
    return 0


def mount_add(call: ToolCall, context: Context) -> int:
    call.require(2)
    name, path = call.args
    edits.add_mount(context.manifest, name, path, read_only=call.flags["read-only"])
    return 0


def mount_remove(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.remove_mount(context.manifest, call.args[0])
    return 0


def port_add(call: ToolCall, context: Context) -> int:
    call.require(3)
    name, protocol, number = call.args
    edits.add_port(
        context.manifest,
        name,
        protocol,
        number=number,
        count=call.flags["count"],
        activated=call.flags["socket-activated"],
    )
    return 0


def port_remove(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.remove_port(context.manifest, call.args[0])
    return 0


def replace_manifest(call: ToolCall, context: Context) -> int:
    from rkt.appc.image import ImageManifest

    call.require(1)
    with open(call.args[0], "rb") as file:
        context.manifest = ImageManifest.decode(file.read())
    return 0


def run(call: ToolCall, context: Context) -> int:
    from rkt.build.acbuild import running

    if not call.args:
        return call.usage()
    call.flush()
    return running.run(
        context,
        call.args,
        sources(call),
        engine=call.flags["engine"],
        directory=call.flags["working-dir"],
        notify=call.say,
    )


def set_event_handler(call: ToolCall, context: Context) -> int:
    if len(call.args) < 2:
        call.require(2)
    edits.set_event_handler(context.manifest, call.args[0], call.args[1:])
    return 0


def set_exec(call: ToolCall, context: Context) -> int:
    if not call.args:
        return call.usage()
    edits.set_exec(context.manifest, call.args)
    return 0


def set_group(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.set_group(context.manifest, call.args[0])
    return 0


def set_name(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.set_name(context.manifest, call.args[0])
    return 0


def set_supplementary_groups(call: ToolCall, context: Context) -> int:
    if not call.args:
        return call.usage()
    edits.set_supplementary_groups(context.manifest, call.args)
    return 0


def set_user(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.set_user(context.manifest, call.args[0])
    return 0


def set_working_directory(call: ToolCall, context: Context) -> int:
    call.require(1)
    edits.set_working_directory(context.manifest, call.args[0])
    return 0


PLAIN: dict[str, Callable[[ToolCall], int]] = {
    "begin": begin,
    "cat-manifest": cat_manifest,
    "end": end,
    "gen-man-pages": generate_man_pages,
    "help": show_help,
    "version": version,
    "write": write,
}

STEPS: dict[str, Callable[[ToolCall, Context], int]] = {
    "annotation add": annotation_add,
    "annotation remove": annotation_remove,
    "copy": copy,
    "copy-to-dir": copy_to_directory,
    "dependency add": dependency_add,
    "dependency remove": dependency_remove,
    "environment add": environment_add,
    "environment remove": environment_remove,
    "isolator add": isolator_add,
    "isolator remove": isolator_remove,
    "label add": label_add,
    "label remove": label_remove,
    "mount add": mount_add,
    "mount remove": mount_remove,
    "port add": port_add,
    "port remove": port_remove,
    "replace-manifest": replace_manifest,
    "run": run,
    "set-event-handler": set_event_handler,
    "set-exec": set_exec,
    "set-group": set_group,
    "set-name": set_name,
    "set-supp-groups": set_supplementary_groups,
    "set-user": set_user,
    "set-working-directory": set_working_directory,
}
