"""The kernel: mounts, namespaces, paths, locks, processes, cgroups, capabilities, seccomp.

Knows nothing of images or pods.  ``rkt.linux.libc`` is the only module of rkt that uses ctypes; what
``list`` and ``version`` need (``lock``, ``files``, ``mountinfo``, ``process``) works without it.  A
refused system call is an OSError with errno, path and the attribute ``operation``.
"""
