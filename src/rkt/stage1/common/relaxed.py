"""Which confinement ``--insecure-options`` switched off."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.flags import RunFlags


class Relaxed:
    """True for what is switched off."""

    __slots__ = ("capabilities", "paths", "seccomp")

    def __init__(self, *, capabilities: bool, paths: bool, seccomp: bool) -> None:
        self.capabilities, self.paths, self.seccomp = capabilities, paths, seccomp

    @classmethod
    def of(cls, flags: RunFlags) -> Relaxed:
        """What the flags of ``run`` say."""
        return cls(
            capabilities=flags.disable_capabilities,
            paths=flags.disable_paths,
            seccomp=flags.disable_seccomp,
        )
