"""The services."""

from __future__ import annotations

from rkt.cli.options import Command, Option

TABLE = {
    "api-service": Command(
        "[--listen=ADDRESS]",
        "Answers questions about pods and images over gRPC; it changes nothing.",
        (Option("listen", "string", "localhost:15441", "address to listen on"),),
    ),
    "metadata-service": Command(
        "[--listen-port=PORT]",
        "Tells apps about themselves over HTTP, until it is stopped: their manifests, annotations and UUID, "
        "and signatures that other pods can verify. It knows the pods started with --mds-register.",
        (Option("listen-port", "int", "18112", "port to listen on"),),
    ),
}
