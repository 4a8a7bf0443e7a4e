"""The user IDs of a pod: those of the host, or with ``--private-users`` a range that is its own.

Numbers in manifests and images are IDs *inside*.  On the host a file or process of the pod has the ID inside
plus the first of the range; IDs that are not in the range do not exist inside (user_namespaces(7)).
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import mount, namespaces

_EVERY = 1 << 32


class IdRange:
    """``count`` IDs from ``first`` on; all IDs there are when the pod shares the host's."""

    __slots__ = ("_namespace", "count", "first")

    def __init__(self, first: int = 0, count: int = _EVERY) -> None:
        self.first, self.count = first, count
        self._namespace = -1

    @classmethod
    def parse(cls, text: str) -> IdRange:
        """The value of ``--private-users``: ``SHIFT:COUNT``, or "" for the IDs of the host."""
        if not text:
            return cls()
        first, colon, count = text.partition(":")
        if not (colon and first.isascii() and first.isdigit() and count.isascii() and count.isdigit()):
            raise RktError(f'invalid value "{text}" for -private-users: must be SHIFT:COUNT')
        found = cls(int(first), int(count))
        if not found.first or not found.count or found.first + found.count >= _EVERY:
            raise RktError(f'invalid value "{text}" for -private-users: outside the range of ids')
        return found

    @property
    def private(self) -> bool:
        """Whether the pod has a user namespace of its own."""
        return self.first != 0

    @property
    def root(self) -> tuple[int, int]:
        """Owner and group, on the host, of what the pod's root owns."""
        return self.first, self.first

    def outside(self, number: int, what: str) -> int:
        """The ID on the host; RktError says that ``what`` has none."""
        if not 0 <= number < self.count:
            raise RktError(f"{what} is outside the pod's range of {self.count} ids")
        return self.first + number

    def inside(self, number: int, what: str) -> int:
        """The ID inside of one on the host; RktError says that ``what`` has none."""
        if not 0 <= number - self.first < self.count:
            raise RktError(f"{what} is outside the pod's range of {self.count} ids")
        return number - self.first

    def __enter__(self) -> IdRange:
        return self

    def __exit__(self, *_: object) -> None:
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def map_owners(self, detached: int) -> bool:
        """Let the pod see the owners of a detached mount as the host does; False when that cannot be done.

        The file system has to support id-mapped mounts, as ext4, xfs, btrfs and (Linux 6.3) tmpfs
        do and overlay does not, and so has every one that is mounted below.
        """
        if self._namespace < 0:
            self._namespace = namespaces.open_id_map(self.first, self.count)
        try:
            mount.mount_setattr(detached, userns_fd=self._namespace, recursive=True)
        except OSError as error:
            from errno import EINVAL, ENOSYS, EPERM

            # EPERM: it is id-mapped already
            if error.errno not in (EINVAL, ENOSYS, EPERM):
                raise
            return False
        return True
