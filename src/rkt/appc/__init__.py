"""The App Container specification as types: names, hashes, quantities, isolators, manifests, rendering.

No I/O: text and values in, records out.  The rules are those of the specification 0.8.11 with the
laxness of its Go reference where images in the wild depend on it.

What the reference lets through and the host would pay for is refused where it is used:

* image IDs are free text here (``sha512-zz``): the store checks what it takes for a key;
* names may hold ``..`` between slashes (``a/../b``): nothing may make a path of a name unchecked;
* paths of mounts and whitelists may be relative or empty here, modes of volumes any text;
* strings may hold NUL here: nothing with one is executed.

What differs from the reference on purpose:

* where it crashes there is an error: a known isolator without a value, a malformed UUID in JSON;
* the end of a range of ports does not wrap around at 64 bits, nor an amount in thousandths;
* exponents of quantities beyond 1000 and more than 640 digits are refused, 1000E prints as itself;
* JSON nested deeper than the interpreter's stack is refused (the reference takes 10,000 levels);
* keys of flags are literal: ``%`` and ``&`` in them mean themselves;
* a loop of dependencies and more than 1,000 of them are errors, the whitelist of a sibling does not leak,
  and a directory that is only implied hides a lower file (see ``rendering``);
* ``os/linux/apparmor-profile`` is known (the specification has it since after 0.8.11);
* the table from Go's names of systems to labels has all rows under the right keys.
"""

# Not "from __future__ import annotations": the name would hide the module rkt.appc.annotations.
VERSION = "0.8.11"
