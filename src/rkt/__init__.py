"""rkt: a container runtime without a daemon, whose unit is the pod."""

VERSION = "1.30.0"
"""The rkt release this program is a drop-in for; written into pod manifests as ``acVersion``."""
