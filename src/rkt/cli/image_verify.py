"""``rkt image verify``: rendered trees compared with their checksums, damaged ones rendered again."""

from __future__ import annotations

from rkt.errors import RktError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.store.store import Store


def run(call: Call) -> int:
    from rkt.store.store import Store

    if not call.args:
        call.error("must provide at least one image ID")
        return 254
    with Store(call.globals.dir, call.notify("db")) as store:
        for word in call.args:
            _verify(call, store, word)
    return 0


def _verify(call: Call, store: Store, word: str) -> None:
    key = store.lookup(word)
    tree_id = store.tree_id(key)
    if not store.trees.is_rendered(tree_id):
        call.error(f'image "{word}" not rendered; no verification needed')
        return
    try:
        store.check_tree(tree_id)
    except RktError as error:
        call.print(f"tree cache verification failed for image {word}: {one_line(error)};  rebuilding...")
        call.error("tree cache is in a bad state. Rebuilding...")
        store.render(key, rebuild=True)
        return
    call.print(f'successfully verified checksum for image: "{word}" ("{key}")')
    call.flush()
