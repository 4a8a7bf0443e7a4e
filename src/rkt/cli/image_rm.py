"""``rkt image rm``: images out of the store.  An unknown name is said, and is no failure."""

from __future__ import annotations

from rkt.errors import RktError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.cli.call import Call
    from rkt.store.store import Store


def run(call: Call) -> int:
    from rkt.store.store import Store

    if not call.args:
        call.error("must provide at least one image ID")
        return 254
    with Store(call.globals.dir, call.notify("db")) as store:
        keys: list[str] = []
        for word in call.args:
            try:
                key = store.lookup(word)
            except RktError as error:
                call.error(one_line(error))
                continue
            if key not in keys:
                keys.append(key)
        return remove_images(call, store, keys)


def remove_images(call: Call, store: Store, keys: Iterable[str]) -> int:
    """Remove images and say what became of them; the exit code (also of ``image gc``)."""
    from rkt.store.store import StaleFilesError

    done = stale = failed = 0
    for key in keys:
        try:
            store.remove(key)
        except StaleFilesError as error:
            stale += 1
            call.error(one_line(error))
        except (RktError, OSError) as error:
            failed += 1
            call.error(f'error removing aci for image "{key}": {one_line(error)}')
            continue
        done += 1
        call.print(f'successfully removed aci for image: "{key}"')
        call.flush()
    if done:
        call.error(f"{done} image(s) successfully removed")
    if stale:
        call.error(f"{stale} image(s) removed but left some stale files")
    if failed:
        call.error(f"{failed} image(s) cannot be removed")
    if stale or failed:
        call.error("error(s) found while removing images")
        return 254
    return 0
