"""The verbs: prepare, run, enter, stop, collect, export.  Explicit records in, results out.

Nothing here reads flags, prints or exits; what a user should see while something happens goes through a
callable that the command line passes in.
"""
