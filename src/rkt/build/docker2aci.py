"""Container images of registries and files as application container images in files.

The work is done by ``rkt.image.oci``: what comes out squashed is what ``rkt fetch`` would import, with the
same ID.  Not squashed, each layer becomes an image that depends on the one below; what a layer takes away is
left out of its list of all paths there are (``pathWhitelist``).  A file that a layer gives another name is
in both layers then: archives cannot link to each other.
"""

from __future__ import annotations

import os
import tempfile

from rkt.appc.image import Dependency, ImageManifest
from rkt.build import layout
from rkt.errors import RktError
from rkt.image.fetch import host_labels
from rkt.image.insecure import InsecureOptions
from rkt.image.oci import local, names
from rkt.image.oci.docker_archive import DockerArchive
from rkt.image.oci.fetch import ContainerFetcher, Request
from rkt.image.oci.files import Archive
from rkt.image.oci.layers import Limits
from rkt.image.oci.layout import Layout
from rkt.image.oci.manifest import identifier
from rkt.store import merge
from rkt.store.filesystem import Filesystem, Plan
from rkt.store.pack import ImageFile
from rkt.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rkt.config import Config
    from rkt.image.oci.fetch import Taken
    from rkt.image.oci.source import Source
    from rkt.store.entry import Entry

    # What lies at a path: None for a directory without an entry of its own, the entry that describes
    # it for another, (layer, index) of the entry for what is no directory.
    View = dict[str, "Entry | tuple[int, int] | None"]

_SCHEME = "docker://"


class Conversion:
    """What came out: the paths of the images, the top one last, and its manifest."""

    __slots__ = ("manifest", "paths")

    def __init__(self, paths: list[str], manifest: ImageManifest) -> None:
        self.paths = paths
        self.manifest = manifest


class Converter:
    """Converts images into files of a directory; files that are there are replaced.

    ``insecure``: names of insecure options (``tls``, ``http``); ``config`` gives credentials.  Digests are
    always checked, signatures never: whoever runs the result decides whose signature it needs.
    """

    __slots__ = ("_compress", "_config", "_directory", "_insecure", "_notify", "_squash")

    def __init__(
        self,
        directory: str = ".",
        *,
        squash: bool = True,
        compress: bool = True,
        insecure: Iterable[str] = (),
        config: Callable[[], Config] | None = None,
        notify: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._directory = directory
        self._squash = squash
        self._compress = compress
        self._insecure = InsecureOptions(insecure)
        self._config = config
        self._notify = notify

    def convert(self, text: str, image: str = "") -> Conversion:
        """Convert ``docker://REFERENCE``, or the ``image`` of an archive or layout (the only one without)."""
        with tempfile.TemporaryDirectory(prefix="docker2aci-") as scratch, Store(scratch) as store:
            store.places.make()
            if text.startswith(_SCHEME):
                return self._convert_remote(store, names.parse(text[len(_SCHEME) :]))
            return self._convert_local(store, text, image)

    def _convert_remote(self, store: Store, name: names.ContainerName) -> Conversion:
        from rkt.image.oci.registry import Registry

        request = Request(name.text, name.digest or name.tag, pinned=name.digest, name=name)
        with Registry(name, self._insecure, self._config, self._notify) as registry:
            return self._convert(store, registry, request)

    def _convert_local(self, store: Store, path: str, image: str) -> Conversion:
        place = local.Place(path, "file")
        place.path, place.name = os.path.abspath(path), image
        with local.open_files(place, scratch=store.places.temporary, limit=Limits().content) as files:
            is_layout = files.has("oci-layout") and not files.has("manifest.json")
            if isinstance(files, Archive) and not is_layout:
                return self._convert(store, *local.archive_request(place, DockerArchive(files, path)))
            return self._convert(store, *local.layout_request(place, Layout(files, path)))

    def _convert(self, store: Store, source: Source, request: Request) -> Conversion:
        fetcher = ContainerFetcher(store, None, host=host_labels(), diagnose=self._notify)
        taken = fetcher.take(source, request, fetcher.find(source, request))
        base = _file_name(request)
        if self._squash:
            filesystem = Filesystem()
            for layer in taken.layers:
                filesystem.apply(layer.headers)
            path, _ = self._write(f"{base}.aci", taken, taken.manifest, filesystem.plan())
            return Conversion([path], taken.manifest)
        return self._convert_layers(taken, base)

    def _convert_layers(self, taken: Taken, base: str) -> Conversion:
        filesystem = Filesystem()
        before: View = {}
        below: Dependency | None = None
        paths = []
        labels = taken.manifest.labels
        made = taken.manifest
        platform = "".join(
            f"-{label.value}" for name in ("os", "arch") for label in labels if label.name == name
        )
        used: set[str] = set()
        last = len(taken.layers) - 1
        for number, layer in enumerate(taken.layers):
            filesystem.apply(layer.headers)
            plan = filesystem.plan()
            now = _view(plan)
            digits = layer.descriptor.digest.partition(":")[2]
            name = identifier(f"{taken.manifest.name}-{digits}")
            if name in used:  # the same layer may be there twice
                name = f"{name}-{number}"
            used.add(name)
            made = ImageManifest.decode(taken.manifest.encode())
            made.name = name
            if number != last:
                made.app = None
                made.annotations = []
            made.dependencies = [below] if below else []
            made.path_whitelist = layout.whitelist(f"/{path}" for path in now if path)
            difference = _difference(plan, before)
            path, identity = self._write(f"{base}{platform}-{number}.aci", taken, made, difference)
            paths.append(path)
            below = Dependency(name, image_id=identity, labels=labels)
            before = now
        return Conversion(paths, made)

    def _write(self, name: str, taken: Taken, manifest: ImageManifest, plan: Plan) -> tuple[str, str]:
        """Write one image; its path and its ID."""
        path = os.path.join(self._directory, name) if self._directory != "." else name
        contents = taken.contents(len(plan.files))
        with (
            ImageFile(path, overwrite=True, exists="", compress=self._compress) as target,
            merge.stream(manifest.encode().encode(), plan, contents) as archive,
        ):
            while data := archive.read(1 << 20):
                target.write(data)
            return path, target.publish()


def _file_name(request: Request) -> str:
    """The name of an image's file without what says that it is one."""
    if request.name is not None:
        words = [request.name.repository, request.name.tag or request.name.digest.replace(":", "-")]
    else:
        words = [request.label, request.version.replace(":", "-")]
    made = "-".join(word for word in words if word).replace("/", "-")
    if not made or made.startswith("."):
        raise RktError(f'image "{request.text}" has no name a file could have')
    return made


def _view(plan: Plan) -> View:
    """Everything the layers so far make up."""
    found: View = {}
    for path, entry in plan.directories:
        found[path] = entry
    for number, files in enumerate(plan.files):
        for index, paths in files.items():
            for path in paths:
                found[path] = (number, index)
    return found


def _difference(plan: Plan, before: View) -> Plan:
    """What of a plan was not there before, or was something else; the root always is part of it."""
    changed = Plan(len(plan.files))
    for path, entry in plan.directories:
        # An entry is another object each time a layer describes a directory.
        if not path or path not in before or before[path] is not entry:
            changed.directories.append((path, entry))
    for number, files in enumerate(plan.files):
        for index, paths in files.items():
            new = [path for path in paths if before.get(path) != (number, index)]
            if new:
                changed.files[number][index] = new
    return changed
