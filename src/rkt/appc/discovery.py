"""From an image name to addresses: the pure part of meta discovery (specification, "Discovery").

Names are parsed, pages of HTML read, templates filled and prefixes walked here; who fetches a page is
the caller's ``get``.
"""

from __future__ import annotations

from rkt.appc.errors import AppcError
from rkt.appc.flags import split_flag
from rkt.appc.identifiers import check_identifier
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rkt.appc.image import ImageManifest

    # takes an address, returns status and text; raises OSError or RktError where there is no answer
    Get = Callable[[str], tuple[int, str]]

DEFAULT_VERSION = "latest"
_OK = 200
# What stands in these elements is text to Go's tokenizer: no tag in them counts.
_TEXT_ELEMENTS = frozenset(
    ("script", "style", "textarea", "title", "iframe", "noembed", "noframes", "plaintext", "xmp")
)


class ImageName:
    """An image as users write it: ``name[:version][,label=value...]``."""

    __slots__ = ("labels", "name")

    def __init__(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        self.name = check_identifier(name)
        self.labels = {check_identifier(label): value for label, value in (labels or {}).items()}

    def __repr__(self) -> str:
        return f"ImageName({str(self)!r})"

    def __str__(self) -> str:
        """The text that reads as this name, labels sorted."""
        return self.name + "".join(f",{label}={self.labels[label]}" for label in sorted(self.labels))

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read a name; raises ``AppcError``."""
        if text.count(":") > 1:
            raise AppcError("malformed image name: a colon may appear at most once")
        name, colon, _ = text.partition(":")
        if colon and "," in name:
            raise AppcError("malformed image name: a colon may appear only right after the name")
        words = split_flag(text.replace(":", ",version=", 1))
        return cls(words.pop("name"), words)


class Endpoint:
    """Where an image and its signature are."""

    __slots__ = ("aci", "asc")

    def __init__(self, aci: str, asc: str) -> None:
        self.aci = aci
        self.asc = asc

    def __repr__(self) -> str:
        return f"Endpoint({self.aci!r}, {self.asc!r})"


class Attempt:
    """A prefix that gave nothing, and why; ``answered``: it has a page, but none that helps."""

    __slots__ = ("answered", "prefix", "reason")

    def __init__(self, prefix: str, reason: str, *, answered: bool = False) -> None:
        self.prefix = prefix
        self.reason = reason
        self.answered = answered

    def __repr__(self) -> str:
        return f"Attempt({self.prefix!r}, {self.reason!r})"


class Meta:
    """One ``<meta name="ac-..." content="PREFIX URL">``."""

    __slots__ = ("address", "name", "prefix")

    def __init__(self, name: str, prefix: str, address: str) -> None:
        self.name = name
        self.prefix = prefix
        self.address = address

    def __repr__(self) -> str:
        return f"Meta({self.name!r}, {self.prefix!r}, {self.address!r})"


def extract_meta(page: str) -> list[Meta]:
    """The discovery tags of a page in their order; anything that is not HTML gives none."""
    from html.parser import HTMLParser

    found: list[Meta] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in _TEXT_ELEMENTS:
                self.set_cdata_mode(tag)
            if tag != "meta":
                return
            name = prefix = address = ""
            for attribute, value in attrs:
                if attribute == "name" and value is not None and value.startswith("ac-"):
                    name = value
                elif attribute == "content" and value is not None:
                    prefix, _, address = value.strip().partition(" ")
                    address = address.strip()
            if name and prefix and address:
                found.append(Meta(name, prefix, address))

        def parse_marked_section(self, i: int, report: bool = True) -> int:
            # the library asserts that <![...] is well-formed; in HTML it is a comment up to ">"
            return self.parse_bogus_comment(i)

    # Not closed at the end: closing reads what was left open, a comment or a tag, once more from each "<"
    # in it, and in Go what is open at the end counts for nothing.
    Parser(convert_charrefs=True).feed(page)
    return found


def fill(template: str, values: Mapping[str, str]) -> tuple[str, bool]:
    """Replace each ``{name}``; the flag says that no ``{...}`` is left."""
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template, not _has_variable(template)


def _has_variable(text: str) -> bool:
    start = text.find("{")
    while start >= 0:
        if "}" in text[start:].partition("\n")[0]:
            return True
        start = text.find("{", start + 1)
    return False


def endpoints(image: ImageName, tags: list[Meta]) -> list[Endpoint]:
    """The addresses the tags give for an image; a template with a variable that has no value gives none.

    A missing or empty version reads ``latest`` here and only here.
    """
    values = {"name": image.name}
    values.update((label, value) for label, value in image.labels.items() if label != "name")
    if not values.get("version"):
        values["version"] = DEFAULT_VERSION
    found = []
    for tag in tags:
        if tag.name != "ac-discovery" or not image.name.startswith(tag.prefix):
            continue
        template, _ = fill(tag.address, values)
        aci, complete = fill(template, {"ext": "aci"})
        asc, _ = fill(template, {"ext": "aci.asc"})
        if complete:
            found.append(Endpoint(aci, asc))
    return found


def public_keys(image: ImageName, tags: list[Meta]) -> list[str]:
    """The addresses of keys the tags give for an image."""
    return [
        tag.address
        for tag in tags
        if tag.name == "ac-discovery-pubkeys" and image.name.startswith(tag.prefix)
    ]


def prefixes(name: str) -> Iterator[str]:
    """The name, and the name without its last part again and again, down to the host."""
    while name:
        yield name
        name = name.rpartition("/")[0]


def address_of(prefix: str, scheme: str = "https", port: int = 0) -> str:
    """The address of the page that a prefix is asked at."""
    host, slash, path = prefix.partition("/")
    if port:
        host = f"{host}:{port}"
    return f"{scheme}://{host}{slash}{path}?ac-discovery=1"


def fetch_page(prefix: str, get: Get, *, insecure_http: bool = False, port: int = 0) -> tuple[str, str]:
    """Address and text of a prefix's page; plain http is tried only if allowed, after https has failed.

    Raises ``AppcError`` with the reason of the last failure.
    """
    reason = ""
    cause: Exception | None = None
    for scheme in ("https", "http") if insecure_http else ("https",):
        address = address_of(prefix, scheme, port)
        try:
            status, text = get(address)
        except (OSError, RktError) as error:
            reason, cause = str(error), error
            if address.partition("?")[0] not in reason:
                reason = f"{address}: {reason}"
            continue
        if status == _OK:
            return address, text
        reason, cause = f"{address}: expected status 200, got {status}", None
    raise AppcError(reason) from cause


def find_endpoints(
    image: ImageName, get: Get, *, insecure_http: bool = False, port: int = 0
) -> tuple[list[Endpoint], list[Attempt]]:
    """The endpoints of the first prefix that has any (none: discovery failed), and the attempts before it."""
    attempts: list[Attempt] = []
    for tags in _walk(image, get, attempts, insecure_http=insecure_http, port=port):
        found = endpoints(image, tags)
        if found:
            attempts.pop()
            return found, attempts
    return [], attempts


def find_public_keys(
    image: ImageName, get: Get, *, insecure_http: bool = False, port: int = 0
) -> tuple[list[str], list[Attempt]]:
    """The addresses of keys at the first prefix that has any, and the attempts before it."""
    attempts: list[Attempt] = []
    for tags in _walk(image, get, attempts, insecure_http=insecure_http, port=port):
        found = public_keys(image, tags)
        if found:
            attempts.pop()
            return found, attempts
    return [], attempts


def _walk(
    image: ImageName, get: Get, attempts: list[Attempt], *, insecure_http: bool, port: int
) -> Iterator[list[Meta]]:
    """The tags of each prefix that answers; each prefix is noted as an attempt before it is used."""
    for prefix in prefixes(image.name):
        try:
            address, page = fetch_page(prefix, get, insecure_http=insecure_http, port=port)
        except AppcError as error:
            attempts.append(Attempt(prefix, str(error)))
            continue
        attempts.append(
            Attempt(prefix, f"{address} has no usable discovery tag for this image", answered=True)
        )
        yield extract_meta(page)


def check_found(image: ImageName, manifest: ImageManifest) -> None:
    """The image that came is the one asked for: same name, and every label asked for with that value."""
    if manifest.name != image.name:
        raise AppcError(
            f'error when reading the app name: "{image.name}" expected but "{manifest.name}" found'
        )
    for label, value in image.labels.items():
        got = manifest.label(label)
        if got is None:
            raise AppcError(f'requested label "{label}" not provided by the image manifest')
        if got != value:
            raise AppcError(f'"{value}" expected for the label "{label}" but "{got}" found')
