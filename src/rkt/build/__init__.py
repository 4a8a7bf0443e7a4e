"""Making images: what actool, acbuild and docker2aci do.

::

    layout      image layouts as directories: manifest and rootfs
    images      image files: checking them, reading and replacing their manifests
    patches     changes of a manifest, given as words
    acbuild/    builds in steps, each a command, with their state in a directory
    docker2aci  container images as application container images

Command lines are in ``rkt.cli.tools``; nothing here prints, exits or reads flags.
"""
