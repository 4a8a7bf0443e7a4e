"""The default flavor: systemd-nspawn around a systemd of its own, one service unit per app.

========== ==================================================================================================
init       entry point ``run``: plan, carry out, execute systemd-nspawn
plan       everything that will be done, as plain data that ``--debug`` prints
units      unit files: a writer that escapes, the units of every pod and the unit of an app
confinement capabilities, system calls and paths of apps and of the pod around them
prepare    carries a plan out: mounts, device nodes, files of stage1's root
supervisor how systemd-nspawn is called on this host, and in which cgroup
enter      entry point ``enter``: a command beside a running app, as confined as the app
gc, stop   the entry points of these names
========== ==================================================================================================

No Python runs inside the pod: all of this is executed on the host's side.
"""
