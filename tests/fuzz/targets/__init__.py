"""All fuzzers, by name."""

from __future__ import annotations

from fuzz.target import Target
from fuzz.targets import archives, documents, layers, settings, signatures, words

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (archives, layers, documents, words, settings, signatures)
    for target in module.TARGETS
}
