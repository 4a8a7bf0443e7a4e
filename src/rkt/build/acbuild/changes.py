"""What a build has done to the files below its image, as overlayfs notes it in the image's own files.

A character device 0:0 says that the name is gone, the attribute ``trusted.overlay.opaque`` of a directory
that nothing of what lies below it counts.  appc knows no such signs: an image can only list what is there
(``pathWhitelist``), so that is what they become when the image is written.
"""

from __future__ import annotations

import os
import stat

OPAQUE = "trusted.overlay.opaque"


def is_removed(found: os.stat_result) -> bool:
    """Whether a file is the sign for one that was removed."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def hides_something(root: str) -> bool:
    """Whether there is any such sign below a directory.  Follows no link."""
    pending = [root]
    while pending:
        directory = pending.pop()
        if is_opaque(directory):
            return True
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif is_removed(entry.stat(follow_symlinks=False)):
                    return True
    return False


def visible(lower: str, upper: str) -> list[str]:
    """The absolute paths inside the image of all there is with ``upper`` over ``lower``, sorted."""
    found: list[str] = []
    pending: list[tuple[str, bool, bool]] = [("", True, True)]
    while pending:
        path, in_lower, in_upper = pending.pop()
        names: dict[str, list[bool]] = {}
        if in_upper:
            in_lower = in_lower and not is_opaque(upper + path)
        if in_lower:
            with os.scandir(lower + path) as entries:
                for entry in entries:
                    names[entry.name] = [entry.is_dir(follow_symlinks=False), False]
        if in_upper:
            with os.scandir(upper + path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        names.setdefault(entry.name, [False, False])[1] = True
                    elif is_removed(entry.stat(follow_symlinks=False)):
                        names.pop(entry.name, None)
                    else:
                        names[entry.name] = [False, False]
        for name, (below, above) in names.items():
            found.append(f"{path}/{name}")
            if below or above:
                pending.append((f"{path}/{name}", below, above))
    return sorted(found)
