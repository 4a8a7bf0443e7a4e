"""``rkt trust``: keys into the local key store, after somebody has compared their fingerprints."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.image.http import Client

UNBOUNDED = """\
aborting due to implicit unbounded trust (root domain)
Please provide a specific domain prefix to trust:
    rkt trust --prefix "example.com/foo" [PUBKEY]
Otherwise, trust at the root domain (not recommended) must be explicitly requested:
    rkt trust --root PUBKEY"""


def run(call: Call) -> int:
    from rkt.cli.fetching import asker
    from rkt.image.http import Access, Client
    from rkt.image.keys import Reviewer
    from rkt.trust.keystore import Keystore

    prefix: str = call.flags["prefix"]
    refusal = _refusal(call, prefix)
    if refusal is not None:
        return refusal
    if ":" in prefix or prefix.partition("/")[0] == "docker.io":
        from rkt.image.oci.names import trust_name

        prefix = trust_name(prefix)
    settings = call.globals
    keystore = Keystore(settings.system_config, settings.local_config)
    reviewer = Reviewer(
        ask=asker(call),
        accept=call.flags["skip-fingerprint-review"],
        accept_https=settings.trust_keys_from_https,
        result=call.print,
        notify=call.notify("pubkey"),
    )
    plain: bool = call.flags["insecure-allow-http"]
    with Client(Access(settings.insecure, call.config().auth)) as client:
        for location in call.args or _discover(call, client, prefix, plain=plain):
            data, secure = _read(client, location, plain=plain, guarded=not call.args)
            reviewer.add(keystore, data, prefix=prefix, location=location, secure=secure)
    return 0


def _refusal(call: Call, prefix: str) -> int | None:
    """The exit code for words that do not go together; None when they do."""
    if not prefix and not call.flags["root"]:
        if not call.args:
            return call.usage()
        call.error(UNBOUNDED)
        return 254
    if prefix and call.flags["root"]:
        call.error("--root and --prefix usage mutually exclusive")
        return 254
    if "image" in call.globals.insecure:
        call.error("could not get the keystore")
        return 254
    scheme, separator, _ = prefix.partition("://")
    if separator:
        call.error(f"--prefix must not contain a URL scheme, omit {scheme}://")
        return 254
    if not call.args and call.flags["root"]:
        raise RktError("error determining key location") from RktError(
            "at least one key or --prefix required"
        )
    return None


def _discover(call: Call, client: Client, prefix: str, *, plain: bool) -> list[str]:
    """Where the web site of the prefix says that its keys are."""
    from rkt.image.discovery import Discovery

    try:
        notify = call.notify("pubkey") if call.globals.debug else lambda _: None
        return Discovery(client, notify).keys(prefix, insecure_http=plain)
    except RktError as error:
        raise RktError("error determining key location") from error


def _read(client: Client, location: str, *, plain: bool, guarded: bool) -> tuple[bytes, bool]:
    """A key file and whether it came over https; what discovery gave (``guarded``) is no local path."""
    from rkt.image import keys, source
    from rkt.trust.openpgp import MAX_KEY_SIZE

    if guarded or location.partition(":")[0].lower() in ("http", "https"):
        return keys.download(client, location, plain=plain, guarded=guarded)
    with open(source.open_file(location), "rb") as file:
        return file.read(MAX_KEY_SIZE + 1), False
