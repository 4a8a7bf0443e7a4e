"""The image file."""

from __future__ import annotations

from rkt.appc.image import ImageManifest
from rkt.build.acbuild import changes
from rkt.build.acbuild.context import PLACEHOLDER, Context
from rkt.build.layout import LayoutDirectory, whitelist
from rkt.errors import RktError
from rkt.store.pack import ImageFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.build.acbuild.sources import Sources


def write(
    context: Context,
    output: str,
    sources: Callable[[Context], Sources],
    *,
    overwrite: bool = False,
    notify: Callable[[str], object] = lambda _: None,
) -> str:
    """Write what was built so far to a file; the image's ID.

    Files the build removed from the images below it are left out by a ``pathWhitelist`` of all the others.
    """
    manifest = context.manifest
    if manifest.name == PLACEHOLDER:
        raise RktError("can't write ACI, name was never set")
    if manifest.app is not None and not manifest.app.exec:
        notify("warning: exec command was never set.")
    manifest = ImageManifest.decode(manifest.encode())
    if manifest.dependencies and changes.hides_something(context.rootfs):
        paths = changes.visible(sources(context).render(manifest), context.rootfs)
        # A list that was there before names what may be seen at all.
        before = set(manifest.path_whitelist)
        manifest.path_whitelist = whitelist(path for path in paths if not before or path in before)
    with ImageFile(output, overwrite=overwrite, exists=f"ACI already exists: {output}") as image:
        try:
            with LayoutDirectory(context.image) as layout:
                return layout.write(image, manifest=manifest)
        except PermissionError as error:
            raise RktError(f'"{error.filename}": permission denied - call write as root') from error
