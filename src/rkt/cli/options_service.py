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
        "Tells apps about themselves over HTTP.",
        (Option("listen-port", "int", "18112", "port to listen on"),),
    ),
}
