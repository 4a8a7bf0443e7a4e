"""The App Container specification as types: names, hashes, quantities, isolators, manifests, rendering.

No I/O: text and values in, records out.  The rules are those of the specification 0.8.11 with the
laxness of its Go reference where images in the wild depend on it.  Where the two differ, or the
reference does not check, and the host would pay for it, the check is made where the value is used:

* image IDs are free text here (``sha512-zz`` passes); ``digest.is_full`` is for store keys;
* paths of mount points, mounts and whitelists are not required to be absolute here;
* environment values may hold NUL here; executing refuses them.
"""

# Not "from __future__ import annotations": the name would hide the module rkt.appc.annotations.
VERSION = "0.8.11"
