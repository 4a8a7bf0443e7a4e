"""What a caller of rkt may relax, each by its own name (``--insecure-options``)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FETCH = ("image", "tls", "http", "pubkey")
RUN = ("capabilities", "paths", "seccomp")
GROUPS = {
    "none": (),
    "all-fetch": FETCH,
    "all-run": RUN,
    "all": (*FETCH, *RUN, "ondisk"),
}
_NAMES = frozenset((*FETCH, *RUN, "ondisk"))


class InsecureOptions(frozenset[str]):
    """The names that were given; groups are spelt out.

    ``image``: no signature needed; ``tls``: any certificate; ``http``: no TLS; ``pubkey``: keys over http;
    ``capabilities``, ``paths``, ``seccomp``: no such confinement.  ``ondisk`` has no effect.
    """

    __slots__ = ()

    def __new__(cls, names: Iterable[str] = ()) -> InsecureOptions:
        spelt_out: set[str] = set()
        for name in names:
            spelt_out.update(GROUPS.get(name, (name,)))
        return super().__new__(cls, spelt_out & _NAMES)

    @property
    def image(self) -> bool:
        return "image" in self

    @property
    def tls(self) -> bool:
        return "tls" in self

    @property
    def http(self) -> bool:
        return "http" in self

    @property
    def pubkey(self) -> bool:
        return "pubkey" in self

    @property
    def capabilities(self) -> bool:
        return "capabilities" in self

    @property
    def paths(self) -> bool:
        return "paths" in self

    @property
    def seccomp(self) -> bool:
        return "seccomp" in self
