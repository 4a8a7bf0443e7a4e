"""Archives that try to reach the host: each unpacked beside a tree that must not change."""

from __future__ import annotations

import io
import os
import threading

import pytest

from rkt.errors import RktError
from rkt.linux import mount, mountinfo, paths
from rkt.store.archive import Entry, Limits, Reader, Writer
from rkt.store.extract import Extractor
from support import machine

pytestmark = pytest.mark.promise("P4")


class Arena:
    """``host`` holds what must not change, ``target`` deep inside it is where archives are unpacked."""

    def __init__(self, top: str) -> None:
        self.host = f"{top}/host"
        self.target = f"{self.host}/var/target"
        os.makedirs(self.target)
        os.makedirs(f"{self.host}/etc", 0o755)
        for name in ("etc/passwd", "victim"):
            with open(f"{self.host}/{name}", "w") as file:
                file.write("host")
        self.before = self.state()

    def state(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path, facts in machine.tree(self.host).items():
            if path.startswith(self.target + "/"):
                continue
            status = os.lstat(path)
            times = 0 if path == self.target else status.st_mtime_ns
            content = b""
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    content = file.read()
            # The target itself gets the attributes of the archive's root.
            found[path] = "target" if path == self.target else (facts, times, content, os.listxattr(path))
        return found

    def unpack(self, *members: Entry | tuple[Entry, bytes], limits: Limits | None = None, **options) -> None:
        out = io.BytesIO()
        with Writer(out) as writer:
            for member in members:
                entry, body = member if isinstance(member, tuple) else (member, b"")
                entry.size = entry.size or len(body)
                writer.add(entry, body)
        self.unpack_bytes(out.getvalue(), limits=limits, **options)

    def unpack_bytes(self, data: bytes, *, limits: Limits | None = None, **options) -> None:
        descriptors = len(os.listdir("/proc/self/fd"))
        fd = os.open(self.target, os.O_RDONLY)
        try:
            Extractor(fd, **options).extract(Reader(io.BytesIO(data), limits=limits))
        finally:
            os.close(fd)
            assert len(os.listdir("/proc/self/fd")) == descriptors

    def read(self, name: str) -> str:
        with open(f"{self.target}/{name}") as file:
            return file.read()


@pytest.fixture
def arena(tmp_path):
    place = Arena(os.fspath(tmp_path))
    yield place
    assert place.state() == place.before


ROOT = Entry("rootfs", "directory", mode=0o755)


def evil(name: str = "rootfs/link/victim") -> tuple[Entry, bytes]:
    return Entry(name, mode=0o6777), b"evil"


def symlink(name: str, target: str) -> Entry:
    return Entry("rootfs/" + name, "symlink", linkname=target)


def link(name: str, target: str) -> Entry:
    return Entry("rootfs/" + name, "link", linkname=target)


@pytest.mark.parametrize(
    "name",
    [
        "../../victim",
        "rootfs/../../../victim",
        "rootfs/./a/../../../x",
        "rootfs/..",
        "rootfs/a/..",
        "..",
        "/etc/passwd",
        "//etc/passwd",
        "rootfs/a/../b",
        "rootfs2/x",
        "other",
        "rootfs/" + "n" * 256,
    ],
)
@pytest.mark.attack(1)
def test_names_that_lead_out_are_refused(arena, name):
    with pytest.raises(RktError, match=r"leads out|absolute|beside rootfs|cannot unpack"):
        arena.unpack(ROOT, (Entry(name), b"evil"))
    assert os.listdir(arena.target) == []


@pytest.mark.parametrize("name", ["a\nb", ".wh..wh..opq", ".wh.x", " ", "\\", "...", "-rf", "\udcff"])
@pytest.mark.attack(1)
def test_odd_names_are_plain_names(arena, name):
    arena.unpack(ROOT, (Entry("rootfs/" + name), b"x"))
    assert os.listdir(arena.target) == [name]


@pytest.mark.attack(1)
def test_doubled_slashes_and_dots_are_one_path(arena):
    arena.unpack((Entry("./rootfs//a/./b"), b"x"), (Entry("rootfs/a/c/"), b"y"))
    assert sorted(os.listdir(f"{arena.target}/a")) == ["b", "c"]


@pytest.mark.parametrize("up", ["/", "../../../../..", "/..", "."])
@pytest.mark.attack(2)
def test_a_file_through_a_link_to_the_top_stays_inside(arena, up):
    arena.unpack(ROOT, symlink("link", up), evil("rootfs/link/victim"), evil("rootfs/link/etc/passwd"))
    assert arena.read("victim") == arena.read("etc/passwd") == "evil"


@pytest.mark.parametrize(
    "where", ["{host}", "{host}/etc", "../..", "/proc/self/root", "/proc/self/cwd", "/proc/1/root"]
)
@pytest.mark.attack(2)
def test_a_file_through_a_link_to_the_host(arena, where):
    where = where.format(host=arena.host)
    inside = where == "../.."
    try:
        arena.unpack(ROOT, symlink("link", where), evil())
    except RktError:
        assert not inside
    else:
        assert arena.read("victim") == "evil"


@pytest.mark.attack(2)
def test_links_in_a_row_and_across_archives(arena):
    arena.unpack(ROOT, symlink("a", arena.host), symlink("b", "a/etc"), symlink("c", "b"))
    for name in ("a/victim", "b/passwd", "c/passwd", "a/new", "c/deep/new"):
        with pytest.raises(RktError, match="cannot unpack"):
            arena.unpack(evil("rootfs/" + name))


@pytest.mark.attack(2)
def test_a_directory_entry_replaces_a_link(arena):
    """Neither mode nor owner nor time of the host's directory changes."""
    arena.unpack(ROOT, symlink("etc", f"{arena.host}/etc"))
    arena.unpack(
        Entry("rootfs/etc", "directory", mode=0o777, uid=9, gid=9, mtime_ns=5), evil("rootfs/etc/passwd")
    )
    assert not os.path.islink(f"{arena.target}/etc")
    assert arena.read("etc/passwd") == "evil"
    assert os.stat(f"{arena.target}/etc").st_uid == 9


def test_a_file_entry_replaces_what_is_there(arena):
    os.mkfifo(f"{arena.target}/fifo")
    os.mkdir(f"{arena.target}/directory")
    os.symlink(f"{arena.host}", f"{arena.target}/directory/link")
    os.symlink(f"{arena.host}/victim", f"{arena.target}/soft")
    names = ("fifo", "directory", "soft")
    arena.unpack(ROOT, *[evil("rootfs/" + name) for name in names])
    assert all(arena.read(name) == "evil" and not os.path.islink(f"{arena.target}/{name}") for name in names)


def test_every_kind_replaces_every_kind(arena):
    def kinds(suffix: str) -> list[Entry]:
        return [
            Entry(f"rootfs/file{suffix}"),
            Entry(f"rootfs/directory{suffix}", "directory"),
            symlink(f"symlink{suffix}", arena.host),
            Entry(f"rootfs/fifo{suffix}", "fifo"),
            Entry(f"rootfs/null{suffix}", "character", devmajor=1, devminor=3),
            link(f"link{suffix}", "rootfs/base"),
        ]

    for old in kinds("-x"):
        for new in kinds("-x"):
            old.name = new.name = "rootfs/x"
            arena.unpack(Entry("rootfs/base"), old, new)
            status = os.lstat(f"{arena.target}/x")
            assert (status.st_nlink == 2) == (new.type in ("link", "directory")) or new.type == "directory"


def test_hard_links(arena):
    arena.unpack(ROOT, (Entry("rootfs/a"), b"inside"), link("b", "rootfs/a"), link("c", "./rootfs//b"))
    assert os.stat(f"{arena.target}/a").st_nlink == 3
    assert os.stat(f"{arena.target}/c").st_ino == os.stat(f"{arena.target}/a").st_ino


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../victim", "rootfs/../../../victim", "manifest", "etc/passwd", "rootfs"]
)
@pytest.mark.attack(3)
def test_hard_links_to_the_outside_are_refused(arena, target):
    with pytest.raises(RktError, match=r"leads out|absolute|outside"):
        arena.unpack(ROOT, link("x", target))


@pytest.mark.attack(3)
def test_a_hard_link_to_the_host_through_a_link(arena):
    for target in ("rootfs/link/victim", "rootfs/link/etc/passwd"):
        with pytest.raises(RktError, match="cannot unpack"):
            arena.unpack(ROOT, symlink("link", arena.host), link("x", target))
    assert os.stat(f"{arena.host}/victim").st_nlink == 1


@pytest.mark.attack(3)
def test_a_hard_link_to_a_link_is_that_link(arena):
    arena.unpack(ROOT, symlink("soft", f"{arena.host}/victim"), link("hard", "rootfs/soft"))
    assert os.path.islink(f"{arena.target}/hard")
    arena.unpack(evil("rootfs/hard"))
    assert arena.read("hard") == "evil"
    assert os.path.islink(f"{arena.target}/soft")


@pytest.mark.attack(3)
def test_hard_links_that_cannot_be(arena):
    for members in (
        [link("x", "rootfs/x")],
        [link("x", "rootfs/missing")],
        [Entry("rootfs/d", "directory"), link("x", "rootfs/d")],
    ):
        with pytest.raises(RktError, match="cannot unpack|to itself"):
            arena.unpack(ROOT, *members)


@pytest.mark.attack(3)
def test_a_hard_link_keeps_its_inode_when_the_first_name_is_replaced(arena):
    arena.unpack(ROOT, (Entry("rootfs/a"), b"one"), link("b", "rootfs/a"), (Entry("rootfs/a"), b"two"))
    assert (arena.read("a"), arena.read("b")) == ("two", "one")


@pytest.mark.attack(5)
def test_modes_devices_and_capabilities_are_kept(arena):
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    arena.unpack(
        Entry("rootfs", "directory", mode=0o2750, uid=3, gid=4, mtime_ns=10**18 + 7, xattrs={"user.d": b"d"}),
        (
            Entry(
                "rootfs/ping",
                mode=0o6755,
                uid=1000,
                gid=1001,
                mtime_ns=-1_500_000_000,
                xattrs={"security.capability": capability, "user.x": b"\0\1"},
            ),
            b"#!",
        ),
        Entry("rootfs/null", "character", devmajor=1, devminor=3, mode=0o666, gid=7),
        Entry("rootfs/loop", "block", devmajor=7, devminor=300, mode=0o660),
    )
    root, ping, null = (os.stat(f"{arena.target}/{name}") for name in (".", "ping", "null"))
    assert (root.st_mode & 0o7777, root.st_uid, root.st_gid, root.st_mtime_ns) == (0o2750, 3, 4, 10**18 + 7)
    assert (ping.st_mode & 0o7777, ping.st_uid, ping.st_gid, ping.st_mtime_ns) == (
        0o6755,
        1000,
        1001,
        -1_500_000_000,
    )
    assert (null.st_rdev, null.st_mode & 0o7777, null.st_gid) == (os.makedev(1, 3), 0o666, 7)
    assert os.stat(f"{arena.target}/loop").st_rdev == os.makedev(7, 300)
    assert os.getxattr(f"{arena.target}/ping", "security.capability") == capability
    assert os.getxattr(f"{arena.target}/ping", "user.x") == b"\0\1"
    assert os.getxattr(arena.target, "user.d") == b"d"


@pytest.mark.attack(5)
def test_metadata_of_overlayfs_and_of_hosts_is_not_kept(arena):
    names = ("trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "security.selinux")
    names += ("system.posix_acl_access", "trusted.x", "security.ima")
    xattrs = dict.fromkeys(names, b"y")
    arena.unpack(ROOT, Entry("rootfs/d", "directory", xattrs=xattrs), Entry("rootfs/f", xattrs=dict(xattrs)))
    assert os.listxattr(f"{arena.target}/d") == os.listxattr(f"{arena.target}/f") == []
    with pytest.raises(RktError, match="sign of overlayfs for a removed file"):
        arena.unpack(ROOT, Entry("rootfs/etc", "character"))


def test_a_damaged_capability_is_an_error(arena):
    with pytest.raises(RktError, match="cannot unpack 'rootfs/f'"):
        arena.unpack(ROOT, Entry("rootfs/f", xattrs={"security.capability": b"junk"}))


def test_owners_are_shifted_and_checked(arena):
    members = (ROOT, Entry("rootfs/d/f", uid=5, gid=65535), symlink("s", "f"))
    arena.unpack(*members, shift=(1_000_000, 65536))
    for name, owner in {"d/f": (5, 65535), "s": (0, 0), "d": (0, 0), ".": (0, 0)}.items():
        status = os.lstat(f"{arena.target}/{name}")
        assert (status.st_uid - 1_000_000, status.st_gid - 1_000_000) == owner
    with pytest.raises(RktError, match="does not fit into a user namespace of 65536 ids"):
        arena.unpack(Entry("rootfs/g", uid=65536), shift=(1_000_000, 65536))
    with pytest.raises(RktError, match="owner out of range"):
        arena.unpack(Entry("rootfs/h", uid=2**32 - 1))


@pytest.mark.attack(5)
def test_an_unprivileged_user_gets_files_of_its_own(arena):
    os.chmod(arena.target, 0o777)
    members = (
        ROOT,
        Entry("rootfs/d", "directory", mode=0o500, uid=0),
        (Entry("rootfs/d/su", mode=0o6755, uid=0), b"x"),
        Entry("rootfs/null", "character", devmajor=1, devminor=3),
        Entry("rootfs/fifo", "fifo"),
    )
    # The target becomes the archive's root and cannot be given away by its new user.
    os.chown(arena.target, 1000, 1000)
    fd = os.open(arena.target, os.O_RDONLY)
    pid = os.fork()
    if pid == 0:
        try:
            os.setresgid(1000, 1000, 1000)
            os.setresuid(1000, 1000, 1000)
            out = io.BytesIO()
            with Writer(out) as writer:
                for member in members:
                    entry, body = member if isinstance(member, tuple) else (member, b"")
                    entry.size = len(body)
                    writer.add(entry, body)
            Extractor(fd, owner=False).extract(Reader(io.BytesIO(out.getvalue())))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(fd)
    assert os.waitpid(pid, 0)[1] == 0
    status = os.stat(f"{arena.target}/d/su")
    assert (status.st_uid, status.st_mode & 0o7777) == (1000, 0o755)
    assert sorted(os.listdir(arena.target)) == ["d", "fifo"]
    assert os.stat(f"{arena.target}/d").st_mode & 0o777 == 0o500


def test_a_mount_in_the_target_is_not_entered(arena):
    """As when an archive is unpacked over a tree in use."""
    os.mkdir(f"{arena.target}/volume")
    mount.mount(f"{arena.host}/etc", f"{arena.target}/volume", None, mount.MS_BIND)
    try:
        for members in ([evil("rootfs/volume/passwd")], [symlink("l", "volume"), evil("rootfs/l/passwd")]):
            with pytest.raises(RktError, match="cannot unpack"):
                arena.unpack(ROOT, *members)
        for entry in (Entry("rootfs/volume"), symlink("volume", "x")):
            with pytest.raises(RktError, match="cannot unpack"):
                arena.unpack(ROOT, entry)
    finally:
        mountinfo.unmount_below(arena.target)


def test_a_directory_swapped_for_a_link_while_unpacking(arena):
    os.mkdir(f"{arena.target}/d")
    os.symlink(arena.host, f"{arena.target}/evil")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            paths.exchange(f"{arena.target}/d", f"{arena.target}/evil")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(30):
            try:
                arena.unpack(
                    *[evil(f"rootfs/d/{directory}/victim") for directory in range(200)],
                    evil("rootfs/d/victim"),
                )
            except RktError:
                continue
    finally:
        stop.set()
        thread.join()


@pytest.mark.attack(6)
def test_sparse_files_take_no_disk_and_have_a_limit(arena):
    from rkt.store import pax
    from rkt.store.archive_writer import _header

    def sparse(size: int) -> bytes:
        records = [
            ("GNU.sparse.map", b"0,512"),
            ("GNU.sparse.size", b"%d" % size),
            ("GNU.sparse.name", b"rootfs/s"),
        ]
        body = pax.build(records)
        head = _header(b"x", b"x", size=len(body), mode=0, mtime=0) + body + bytes(-len(body) % 512)
        return head + _header(b"s", b"0", size=512, mode=0o644, mtime=0) + b"x" * 512 + bytes(1024)

    arena.unpack_bytes(sparse(100 << 30))
    status = os.stat(f"{arena.target}/s")
    assert status.st_size == 100 << 30
    assert status.st_blocks * 512 < 1 << 20
    with pytest.raises(RktError, match="files of the archive are larger than"):
        arena.unpack_bytes(sparse(1 << 40))


@pytest.mark.attack(6)
def test_many_entries_and_much_content_are_bounded(arena):
    with pytest.raises(RktError, match="more than 1000 entries"):
        arena.unpack(*[Entry(f"rootfs/{number}") for number in range(2000)], limits=Limits(entries=1000))
    with pytest.raises(RktError, match="larger than 100000 bytes"):
        arena.unpack(
            *[(Entry(f"rootfs/{number}"), bytes(30_000)) for number in range(9)], limits=Limits(total=100_000)
        )
    assert sum(os.stat(f"{arena.target}/{name}").st_size for name in os.listdir(arena.target)) <= 100_000


@pytest.mark.attack(6)
def test_a_deep_tree(arena):
    deep = "rootfs/" + "a/" * 250
    arena.unpack(ROOT, evil(deep + "f"), evil(deep + "g"))
    with pytest.raises(RktError, match="deeper than 256 directories"):
        arena.unpack(ROOT, evil("rootfs/" + "a/" * 256 + "f"))
    with pytest.raises(RktError, match="longer than 4095 bytes"):
        arena.unpack(ROOT, evil("rootfs/" + "a/" * 2050))


def test_more_directories_than_are_kept_open(arena):
    members = [(Entry(f"rootfs/{number % 300}/{number}"), b"x") for number in range(900)]
    arena.unpack(
        ROOT, *members, *[link(f"l/{number}", f"rootfs/{number % 300}/{number}") for number in range(900)]
    )
    assert len(os.listdir(f"{arena.target}/l")) == 900
    assert len(os.listdir(f"{arena.target}/299")) == 3


@pytest.mark.attack(6)
def test_times_out_of_range_are_an_error_or_cut(arena):
    arena.unpack(ROOT, Entry("rootfs/old", mtime_ns=-(10**12) * 10**9))
    for type in ("file", "directory", "symlink"):
        entry = Entry("rootfs/x", type, linkname="l" if type == "symlink" else "", mtime_ns=10**30)
        with pytest.raises(RktError, match="time"):
            arena.unpack(ROOT, entry)


def test_a_full_disk_is_an_error_that_names_the_entry(arena):
    mount.mount("small", arena.target, "tmpfs", 0, "size=1m")
    try:
        with pytest.raises(RktError, match="cannot unpack 'rootfs/big'") as caught:
            arena.unpack(ROOT, (Entry("rootfs/big"), bytes(2 << 20)))
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == 28
    finally:
        mount.umount(arena.target)
