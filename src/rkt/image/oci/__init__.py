"""Container images: found in registries, OCI layouts and Docker's archives, verified, and made into one ACI.

::

    names          docker://REF: registry, repository, tag, digest
    documents      indexes, manifests and configurations as they come from outside
    layout, docker_archive, registry     the three kinds of sources (``source`` is what they have in common)
    credentials, registries              how a registry may be reached, from the files other tools use too
    verification   digest or signature: why an image is believed
    layers         downloads, checks and indexes all layers at once
    filesystem     what the layers, one over the other, make up
    aci            the archive of that, in an order that depends on nothing else
    manifest       its manifest
    fetch          all of it, one after the other
"""
