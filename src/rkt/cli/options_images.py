"""The commands about images and the keys that sign them."""

from __future__ import annotations

from rkt.cli.options import Command, Option

FORMAT = Option(
    "format",
    "format",
    "",
    "format of the output instead of text: json or json-pretty",
    choices=("json", "json-pretty"),
)
FIELDS = ("id", "name", "size", "importtime", "lastused")
MORE_FIELDS = ("verified",)
OVERWRITE = Option("overwrite", "bool", "false", "replace what is there")
ROOTFS_ONLY = Option("rootfs-only", "bool", "false", "only the root file system, without the manifest")
STORE_ONLY = Option(
    "store-only",
    "bool",
    "false",
    "use only images of the local store",
    deprecated="please use --pull-policy=never",
)
NO_STORE = Option(
    "no-store",
    "bool",
    "false",
    "fetch images even if the local store has them",
    deprecated="please use --pull-policy=update",
)
SIGNATURE = Option(
    "signature",
    "string",
    "",
    "file with the signature of the preceding image",
    scope="app",
    once=True,
    completes="file",
)
POLICY = (
    "when to fetch an image: never, new (the store does not have it) or update (always look for a newer one)"
)
MAX_IMAGE_SIZE = Option(
    "max-image-size", "size", "64G", "most bytes an image may have, unpacked, to be fetched (K, M, G, T)"
)

FETCH = Command(
    "IMAGE [--signature=FILE] ...",
    "Finds images and their signatures, verifies them and keeps them in the local store. An IMAGE is a "
    "file, a URL "
    "(https, docker), or a name.",
    (
        Option("full", "bool", "false", "print the full image ID"),
        MAX_IMAGE_SIZE,
        Option("pull-policy", "string", "update", POLICY, completes="policy"),
        SIGNATURE,
        NO_STORE,
        STORE_ONLY,
    ),
    interspersed=False,
    images=True,
    image_arguments=False,
    completes="file",
)

TABLE = {
    "fetch": FETCH,
    "image fetch": Command(
        FETCH.usage,
        FETCH.description,
        FETCH.options,
        interspersed=False,
        images=True,
        image_arguments=False,
        completes="file",
    ),
    "image cat-manifest": Command(
        "IMAGE",
        "Prints the manifest of an image of the store as JSON. An IMAGE is a name or an image ID, or its "
        "beginning.",
        (Option("pretty-print", "bool", "true", "indent the output"),),
        completes="image",
    ),
    "image export": Command(
        "IMAGE OUTPUT_ACI_FILE",
        "Writes an image of the store to a file, not compressed, and beside it the signature for which it "
        "was believed: OUTPUT_ACI_FILE.asc if that is over this very file (--as-signed makes it so), "
        ".payload with .sig, or .signed, for a signed container image.",
        (
            Option(
                "as-signed",
                "bool",
                "false",
                "write the file as it was signed and fetched, compressed or not",
            ),
            OVERWRITE,
        ),
        completes="image",
    ),
    "image extract": Command(
        "IMAGE OUTPUT_DIR",
        "Unpacks an image of the store, without its dependencies, into a directory.",
        (OVERWRITE, ROOTFS_ONLY),
        completes="image",
    ),
    "image gc": Command(
        "[--grace-period=DURATION]",
        "Removes rendered trees no pod uses, then images that were not used for the grace period.",
        (
            Option(
                "grace-period",
                "duration",
                "24h0m0s",
                "time since an image's last use after which it is removed",
            ),
        ),
    ),
    "image list": Command(
        "",
        "Prints a table of the images in the local store.",
        (
            Option(
                "fields",
                "choices",
                ",".join(FIELDS),
                "comma-separated columns to print: "
                + ", ".join((*FIELDS, *MORE_FIELDS))
                + " (by what an image was verified: openpgp, sigstore, digest, installed, none, unknown)",
                choices=(*FIELDS, *MORE_FIELDS),
            ),
            FORMAT,
            Option("full", "bool", "false", "print full image IDs, sizes in bytes and exact times"),
            Option("no-legend", "bool", "false", "leave out the line of headers"),
            Option("order", "order", "asc", "order of the lines: asc or desc", choices=("asc", "desc")),
            Option(
                "sort",
                "choices",
                "importtime",
                "comma-separated columns to sort by: name, importtime, lastused, size",
                choices=("name", "importtime", "lastused", "size"),
            ),
        ),
    ),
    "image render": Command(
        "IMAGE OUTPUT_DIR",
        "Unpacks an image of the store with all its dependencies into a directory.",
        (OVERWRITE, ROOTFS_ONLY),
        completes="image",
    ),
    "image rm": Command("IMAGE ...", "Removes images from the local store.", completes="image"),
    "image verify": Command(
        "IMAGE ...",
        "Compares the rendered trees of images with the checksum from when they were made, and renders "
        "damaged ones "
        "again.",
        completes="image",
    ),
    "trust": Command(
        "[--prefix=PREFIX] [--root] [--skip-fingerprint-review] [--insecure-allow-http] [PUBKEY ...]",
        "Trusts public keys for images whose name starts with the prefix, or for all images (--root). A "
        "PUBKEY is a "
        "file or a URL; without one the keys are looked for on the web site of the prefix.",
        (
            Option("insecure-allow-http", "bool", "false", "accept keys over http"),
            Option("prefix", "string", "", "names of images the keys are trusted for"),
            Option("root", "bool", "false", "trust the keys for all images"),
            Option("skip-fingerprint-review", "bool", "false", "accept the keys without showing them"),
        ),
        completes="file",
    ),
}
