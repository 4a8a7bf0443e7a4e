"""Collecting pods, in two phases: what has ended is marked, and removed after the grace period.

    run, not locked         -> exited-garbage   (the rename sets the directory's change time: the mark)
    prepare, not locked     -> garbage
    prepared, too old       -> garbage
    embryo, nobody's        -> garbage          (killed between mkdir and rename)
    exited-garbage, too old -> stage1's gc, mounts, -> garbage
    garbage                 -> removed

Every step can be killed and is done again by the next gc.  The stage1's ``gc`` runs until it has
once succeeded: only the pod's directory knows which addresses, rules and control groups it still has.
What is in ``garbage`` needs nothing but removal.
"""

from __future__ import annotations

import os
import time

from rkt.errors import RktError, one_line
from rkt.linux.files import remove_tree
from rkt.linux.lock import Lock
from rkt.linux.mountinfo import unmount_below
from rkt.pod import layout, state
from rkt.pod.lookup import names
from rkt.pod.pod import Pod
from rkt.stage0 import stop
from rkt.stage0.interface import Stage1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_HOST_JOURNALS = "/var/log/journal"


class Collector:
    """What the steps of a collection share.

    ``notify`` says what is being done, ``failed`` which pod could not be removed (the others are),
    ``collecting`` is called with the UUID of each pod that is about to be removed.
    ``debug`` and ``local_config`` are handed to the stage1.
    """

    __slots__ = ("collecting", "data_dir", "debug", "environment", "failed", "local_config", "notify")

    def __init__(
        self,
        data_dir: str,
        environment: Mapping[str, str],
        *,
        notify: Callable[[str], None],
        failed: Callable[[str, Exception], None],
        collecting: Callable[[str], None] = lambda _: None,
        debug: bool = False,
        local_config: str = "",
    ) -> None:
        self.data_dir = data_dir
        self.environment = environment
        self.notify = notify
        self.failed = failed
        self.collecting = collecting
        self.debug = debug
        self.local_config = local_config

    # Marking.

    def mark(self) -> None:
        """Mark what has ended and what will never run."""
        for pod in self._pods(layout.RUN_DIRECTORY, state.EXITED):
            if pod.to_exited_garbage():
                self.notify(f'moving pod "{pod.uuid}" to garbage')
        for pod in self._pods(layout.PREPARE_DIRECTORY, state.ABORTED_PREPARE):
            if pod.to_garbage():
                self.notify(f'moving failed prepare "{pod.uuid}" to garbage')
        self._mark_embryos()

    def mark_expired(self, age_ns: int) -> None:
        """Give up pods that were prepared longer ago than this."""
        for pod in self._pods(layout.PREPARED_DIRECTORY, state.PREPARED):
            if _is_older(pod, age_ns) and pod.to_garbage():
                self.notify(f'moving expired prepared pod "{pod.uuid}" to garbage')

    def _mark_embryos(self) -> None:
        """An embryo is somebody's while it is locked, or while a birth holds the lock on the parent."""
        directory = os.path.join(self.data_dir, layout.PODS, layout.EMBRYO_DIRECTORY)
        found = names(self.data_dir, (layout.EMBRYO_DIRECTORY,))
        if not found:
            return
        with Lock.open(directory) as births:
            if not births.try_exclusive():
                return
            for uuid in found:
                path = os.path.join(directory, uuid)
                try:
                    with Lock.open(path) as lock:
                        if lock.try_exclusive():
                            garbage = os.path.join(self.data_dir, layout.PODS, layout.GARBAGE_DIRECTORY, uuid)
                            os.rename(path, garbage)
                except FileNotFoundError:
                    continue

    # Removing.

    def remove_ended(self, grace_ns: int, period: str) -> None:
        """Remove marked pods whose grace period is over; ``period`` says the same in words."""
        for pod in self._pods(layout.EXITED_GARBAGE_DIRECTORY, state.EXITED_GARBAGE):
            if not _is_older(pod, grace_ns):
                self.notify(f'pod "{pod.uuid}" not removed: still within grace period ({period})')
                continue
            self._remove_one(pod)

    def remove_garbage(self) -> None:
        """Remove pods that were given up."""
        for pod in self._pods(layout.GARBAGE_DIRECTORY, state.GARBAGE):
            self._remove_one(pod)

    def _remove_one(self, pod: Pod) -> None:
        try:
            self.remove(pod)
        except (OSError, RktError) as error:
            self.failed(f'unable to remove pod "{pod.uuid}"', error)

    def remove(self, pod: Pod) -> bool:
        """Remove a pod that is marked or given up; False when another process did that meanwhile.

        Waits for another process that is at it.  Raises OSError or RktError when something of it stays,
        to be removed by the next attempt.
        """
        waiting = f'waiting for another process to remove pod "{pod.uuid}"'
        if not pod.seize(lambda: self.notify(waiting)):
            return False
        self.collecting(pod.uuid)
        state.trace("seized")
        if pod.directory == layout.EXITED_GARBAGE_DIRECTORY:
            self._clean_up(pod)
        unmount_below(pod.path)
        if pod.directory != layout.GARBAGE_DIRECTORY:
            pod.to_garbage()
        if pod.exists(layout.STAGE1_ROOT):
            remove_tree(os.path.join(pod.path, layout.STAGE1_ROOT), missing_ok=True)
        remove_tree(pod.path, missing_ok=True)
        return True

    def _clean_up(self, pod: Pod) -> None:
        """Let the stage1 give back what it has taken: networks, cgroups, registrations.

        Raises RktError when it ran and something is left.  A stage1 that cannot be called any more is
        only reported: it would keep the pod for ever.  What rkt knows of its network and cgroups is undone
        then.
        """
        if pod.exists(layout.METADATA_REGISTERED):
            from rkt.stage0 import metadata

            metadata.unregister(pod)
        try:
            if pod.uses_overlay:
                from rkt.stage0 import overlay

                overlay.mount_stage1(pod)
            stage1 = Stage1(pod)
            argv = [stage1.program("gc")]
        except (OSError, RktError) as error:
            self.notify(f'problem performing stage1 gc on "{pod.uuid}": {one_line(error)}')
            self._take_down(pod)
            return
        if self.debug:
            argv.append("--debug")
        if self.local_config and stage1.supports_gc_config:
            argv.append(f"--local-config={self.local_config}")
        try:
            stop.call([*argv, pod.uuid], pod, self.environment)
        except (OSError, RktError) as error:
            unmount_below(pod.path)
            self.notify(f'problem performing stage1 gc on "{pod.uuid}": {one_line(error)}')
            raise RktError("its stage1 has not given everything back, the next gc tries again") from None

    def _take_down(self, pod: Pod) -> None:
        """The part of the stage1's gc that cannot be found again once the pod's directory is gone."""
        from rkt.linux import cgroup
        from rkt.network.lifecycle import teardown

        record = os.path.join(pod.path, layout.CGROUPS)
        faults: list[Exception] = [*cgroup.remove_recorded(record, layout.CGROUP_PREFIX)]
        faults += teardown(pod.path, pod.uuid, self.local_config or "/etc/rkt")
        link = os.path.join(_HOST_JOURNALS, pod.uuid.replace("-", ""))
        if os.path.islink(link):
            os.unlink(link)
        if faults:
            raise faults[0]

    def _pods(self, directory: str, wanted: str) -> Iterator[Pod]:
        """The pods of one directory that are in one state, each closed after its turn."""
        for uuid in names(self.data_dir, (directory,)):
            try:
                with Pod.open(self.data_dir, uuid, start=directory) as pod:
                    if pod.directory == directory and pod.state == wanted:
                        yield pod
            except RktError:
                # Gone meanwhile: another gc.
                continue
            except OSError as error:
                self.failed(f'unable to handle pod "{uuid}"', error)


def _is_older(pod: Pod, age_ns: int) -> bool:
    """Whether the last rename of a pod was so long ago; with no age at all any clock will do."""
    return age_ns <= 0 or time.time_ns() - os.fstat(pod.fd).st_ctime_ns >= age_ns
