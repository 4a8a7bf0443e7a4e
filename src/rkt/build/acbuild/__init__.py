"""Building images in steps: each step is a command, what it has made so far lies in a directory.

::

    context   that directory and its lock
    start     what a build begins from
    edits     the steps that change the manifest
    copying   the steps that put files into the image
    running   the step that runs a program in it: ``dependencies`` and ``changes`` for what lies below the
              image, ``engines`` for how the program is confined
    writing   the image file
    history   annotations that tell the steps
    script    files with one step a line
"""
