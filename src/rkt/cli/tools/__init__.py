"""Command lines of the tools that make images: actool, acbuild and docker2aci.

``program`` is what they have in common, on top of rkt's own option table, parser and help.  Each tool has a
module with its table (``PROGRAM``) and modules with the functions its commands name; these only turn words
into calls of ``rkt.build`` and results into words.  ``main`` is where a call begins and ends.
"""
