"""Fuzzers: what comes from outside goes into one parser at a time, and only errors of ours may come out."""
