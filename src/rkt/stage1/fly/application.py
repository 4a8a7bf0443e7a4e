"""One app ready to be executed: who it is, what it executes, in which environment and confinement.

``load`` reads the pod and the image and decides; ``Application.execute`` is the last thing a process of
rkt does.  Both ``run`` and ``enter`` end here.
"""

from __future__ import annotations

import os
import sys

from rkt.errors import RktError
from rkt.linux import keyring, paths, process
from rkt.stage1.common import environment, executable, streams, users
from rkt.stage1.fly import confinement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.outcome import Outcomes
    from rkt.stage1.common.pod import App, Pod
    from rkt.stage1.common.relaxed import Relaxed

_UMASK = 0o022
_SIGKILL = 9


class Application:
    """Plain data: ``argv`` (the program still as written), ``environment``, ids, confinement.

    ``silenced`` are those of the standard streams, by name, that are /dev/null.
    """

    __slots__ = (
        "argv",
        "confinement",
        "environment",
        "gid",
        "groups",
        "silenced",
        "uid",
        "working_directory",
    )

    def __init__(self, argv: list[str], variables: dict[str, str], confined: confinement.Confinement) -> None:
        self.argv = argv
        self.environment = variables
        self.confinement = confined
        self.working_directory = "/"
        self.uid = self.gid = 0
        self.groups: list[int] = []
        self.silenced: list[str] = []

    def silence(self) -> None:
        """In the process that will be the app, while the host's /dev is there."""
        if self.silenced:
            fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            for name in self.silenced:
                os.dup2(fd, streams.NAMES.index(name))
            os.close(fd)

    def execute(self, root: int, *, dies_with: int = 0) -> None:
        """Become the program, in the root that this process already has; ``root`` is an fd of it.

        ``dies_with`` is the parent whose end shall be this process's too (0: none).  Never returns.
        RktError when the working directory or the program cannot be used: before any privilege is given up,
        unless only the kernel's execve(2) finds a reason.
        """
        self._change_directory(root)
        program = self._find(root)
        keyring.join_session_keyring()
        os.umask(_UMASK)
        os.close(root)
        self.confinement.become(self.uid, self.gid, self.groups)
        if dies_with:
            # After the change of user, which clears it; the parent may have ended before.
            process.set_parent_death_signal(_SIGKILL)
            if os.getppid() != dies_with:
                os.kill(os.getpid(), _SIGKILL)
        self.confinement.restrict()
        try:
            os.execve(program, self.argv, self.environment)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise RktError(f'Unable to execute "{program}": {reason}') from None

    def _find(self, root: int) -> str:
        search_path = self.environment.get("PATH")
        program = executable.find(
            root, self.argv[0], search_path=search_path, working_directory=self.working_directory
        )
        reason = executable.obstacle(root, program)
        if reason:
            raise RktError(reason)
        return program

    def check(self, root: int, what: str) -> None:
        """RktError when there is no such program in the root, with ``what`` it was to be."""
        try:
            self._find(root)
        except RktError as error:
            raise RktError(f"{what}: {error.message}") from None

    def handler(self, argv: list[str]) -> Application:
        """An event handler of this app: root in the app's environment, confined as the app is."""
        made = Application(argv, self.environment, self.confinement)
        made.working_directory = self.working_directory
        made.silenced = self.silenced
        return made

    def _change_directory(self, root: int) -> None:
        """By an fd: the directory may be a link, or lie behind one of procfs that leads out."""
        try:
            fd = paths.open_in_root(root, self.working_directory, os.O_PATH | os.O_DIRECTORY)
        except OSError as exc:
            raise RktError(f'unable to use the working directory "{self.working_directory}"') from exc
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)


def seal_imports() -> None:
    """From now on nothing is imported: once the root is the image's, so would be the module's file.

    For a codec or module that was overlooked this makes an error of what would be an execution.
    """
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()


def load(pod: Pod, app: App, relaxed: Relaxed, outcomes: Outcomes) -> Application:
    """What the app of a pod is to be; the image is read through an fd of its root."""
    section = app.app
    if not section.exec:
        raise RktError(f'app "{app.name}" has no exec')
    root = os.open(pod.app_root(app.name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        identity = users.resolve(root, section.user, section.group, section.supplementary_gids)
    finally:
        os.close(root)
    confined = confinement.plan(pod, app, identity.uid, relaxed, outcomes)
    variables = dict(environment.complete(app.variables, app.name))
    application = Application(list(section.exec), variables, confined)
    application.uid, application.gid, application.groups = identity.uid, identity.gid, identity.groups
    application.working_directory = section.working_directory or "/"
    return application
