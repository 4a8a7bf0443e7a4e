"""The index of the store: names, times and sizes of images in SQLite, ``cas/db/index.sqlite3``.

One connection a transaction: nothing stays open, so a long-running process never keeps others from
upgrading.  Rollback journal (WAL leaves two more files and needs a writable directory to read),
``BEGIN IMMEDIATE`` for writers, a busy time-out for everybody.  The schema's version is in
``user_version``; an index newer than this program is refused.

Everything but times and the origin of images can be found again from the blobs and manifests: a lost or
damaged index is rebuilt from them under the exclusive lock of ``cas/db``, the damaged file kept beside
it as ``index.sqlite3.damaged``.  Other files in the directory (an empty ``ql.db`` with its log, which
tools of rkt 1.30 leave) are none of the index's business.

Tables: ``aciinfo`` and ``remote`` as in rkt, times in nanoseconds since 1970; ``tree`` keeps the size of
each rendered tree, so that the size of an image with several trees is exact; ``verification`` says why an
image was believed, ``signature`` holds the signature for which (``rkt.store.signature``).
"""

from __future__ import annotations

# The C module that the package sqlite3 wraps: without adapters for dates it is loaded in half the time.
import _sqlite3 as sqlite3
import os

from rkt.errors import RktError
from rkt.linux.lock import Lock
from rkt.store.directories import is_there, own_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeVar

    from rkt.store.signature import Signature

    Result = TypeVar("Result")
    Notify = Callable[[str], object]
    Scan = Callable[[], tuple[Sequence["ImageInfo"], Iterable[tuple[str, str, int]]]]

FILE = "index.sqlite3"
SCHEMA_VERSION = 3
BUSY_SECONDS = 30.0

# Primary result codes of SQLite: for a file that is no (longer a) database,
_SQLITE_CORRUPT = 11
_SQLITE_NOTADB = 26
# and where nothing can be written: a read-only file system, a full one, a directory without a journal.
_SQLITE_READONLY = 8
_SQLITE_FULL = 13
_SQLITE_CANTOPEN = 14
_LIMIT_KEYS = 1000

_SCHEMA = """
CREATE TABLE aciinfo (
    blobkey TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, importtime INTEGER NOT NULL,
    lastused INTEGER NOT NULL, latest INTEGER NOT NULL, size INTEGER NOT NULL, treestoresize INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX aciinfo_name ON aciinfo (name);
CREATE TABLE remote (
    aciurl TEXT NOT NULL PRIMARY KEY, sigurl TEXT NOT NULL, etag TEXT NOT NULL, blobkey TEXT NOT NULL,
    cachemaxage INTEGER NOT NULL, downloadtime INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX remote_blobkey ON remote (blobkey);
CREATE TABLE tree (id TEXT NOT NULL PRIMARY KEY, blobkey TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX tree_blobkey ON tree (blobkey);
CREATE TABLE verification (blobkey TEXT NOT NULL PRIMARY KEY, method TEXT NOT NULL, detail TEXT NOT NULL)
 WITHOUT ROWID;
CREATE TABLE signature (
    blobkey TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL, payload BLOB NOT NULL,
    covers TEXT NOT NULL
) WITHOUT ROWID;
"""
# What brings an index of an earlier version up to the next one.
_UPGRADES = {
    version: "CREATE TABLE " + name + _SCHEMA.partition("CREATE TABLE " + name)[2].partition(";\n")[0]
    for version, name in ((1, "verification"), (2, "signature"))
}
_COLUMNS = "blobkey, name, importtime, lastused, latest, size, treestoresize"


class ImageInfo:
    """What the index knows of one image; ``times`` of import and last use in nanoseconds, sizes in bytes."""

    __slots__ = ("import_time", "key", "last_used", "latest", "name", "size", "tree_size")

    def __init__(
        self, key: str, name: str, *, times: tuple[int, int], latest: bool, size: int, tree_size: int = 0
    ) -> None:
        self.key = key
        self.name = name
        self.import_time, self.last_used = times
        self.latest = bool(latest)
        self.size = size
        self.tree_size = tree_size

    @property
    def total_size(self) -> int:
        """The image and its rendered trees, as ``image list`` shows it."""
        return self.size + self.tree_size


class Remote:
    """Where an image came from, and until when its copy needs no asking again."""

    __slots__ = ("blob_key", "cache_max_age", "download_time", "etag", "signature_url", "url")

    def __init__(
        self,
        url: str,
        blob_key: str,
        *,
        signature_url: str = "",
        etag: str = "",
        cache_max_age: int = 0,
        download_time: int = 0,
    ) -> None:
        self.url = url
        self.blob_key = blob_key
        self.signature_url = signature_url
        self.etag = etag
        self.cache_max_age = cache_max_age
        self.download_time = download_time


class Index:
    """The database of one store.

    ``scan`` gives what a new or rebuilt index starts with: images, and (tree ID, key, size) of trees.
    """

    __slots__ = ("_directory", "_notify", "_path", "_scan")

    def __init__(self, directory: str, scan: Scan, notify: Notify) -> None:
        self._directory = directory
        self._path = os.path.join(directory, FILE)
        self._scan = scan
        self._notify = notify

    # Images

    def images(self) -> list[ImageInfo]:
        """All images, oldest import first."""
        return self._infos(f"SELECT {_COLUMNS} FROM aciinfo ORDER BY importtime, blobkey")

    def get(self, key: str) -> ImageInfo | None:
        found = self._infos(f"SELECT {_COLUMNS} FROM aciinfo WHERE blobkey = ?", key)
        return found[0] if found else None

    def with_name(self, name: str) -> list[ImageInfo]:
        return self._infos(
            f"SELECT {_COLUMNS} FROM aciinfo WHERE name = ? ORDER BY importtime, blobkey", name
        )

    def keys_with_prefix(self, prefix: str) -> list[str]:
        """Keys that begin with ``prefix`` (of the form ``sha512-HEX``), at most a thousand."""
        # "g" sorts behind every hex digit, so this is a range of the primary key.
        statement = "SELECT blobkey FROM aciinfo WHERE blobkey >= ? AND blobkey < ? LIMIT ?"
        rows = self._read(lambda db: db.execute(statement, (prefix, prefix + "g", _LIMIT_KEYS)).fetchall())
        return [row[0] for row in rows]

    def put(self, info: ImageInfo) -> None:
        """Add or replace the row of an image; the size of its trees is worked out here."""

        def work(db: sqlite3.Connection) -> None:
            _insert(db, info)
            _sum_trees(db, info.key)

        self._write(work)

    def touch(self, key: str, now: int) -> None:
        """Note that the image was used at ``now``, where the store can be written: it can be used anyway."""
        try:
            self._write(
                lambda db: db.execute("UPDATE aciinfo SET lastused = ? WHERE blobkey = ?", (now, key))
            )
        except UnwritableError:
            pass

    def remove(self, key: str) -> bool:
        """Forget an image and where it came from; False when it was not known."""

        def work(db: sqlite3.Connection) -> bool:
            db.execute("DELETE FROM remote WHERE blobkey = ?", (key,))
            db.execute("DELETE FROM verification WHERE blobkey = ?", (key,))
            db.execute("DELETE FROM signature WHERE blobkey = ?", (key,))
            return db.execute("DELETE FROM aciinfo WHERE blobkey = ?", (key,)).rowcount > 0

        return self._shrink(work)

    # Trees

    def tree_size(self, tree_id: str) -> int | None:
        rows = self._read(lambda db: db.execute("SELECT size FROM tree WHERE id = ?", (tree_id,)).fetchall())
        return int(rows[0][0]) if rows else None

    def put_tree(self, tree_id: str, key: str, size: int) -> None:
        """Note the size in bytes of a tree rendered from the image ``key``."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO tree (id, blobkey, size) VALUES (?, ?, ?)", (tree_id, key, size)
            )
            _sum_trees(db, key)

        self._write(work)

    def remove_tree(self, tree_id: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            rows = db.execute("SELECT blobkey FROM tree WHERE id = ?", (tree_id,)).fetchall()
            db.execute("DELETE FROM tree WHERE id = ?", (tree_id,))
            for (key,) in rows:
                _sum_trees(db, key)

        self._shrink(work)

    # Origins

    def remote(self, url: str) -> Remote | None:
        statement = "SELECT blobkey, sigurl, etag, cachemaxage, downloadtime FROM remote WHERE aciurl = ?"
        rows = self._read(lambda db: db.execute(statement, (url,)).fetchall())
        if not rows:
            return None
        key, signature_url, etag, age, time = rows[0]
        return Remote(url, key, signature_url=signature_url, etag=etag, cache_max_age=age, download_time=time)

    def put_remote(self, remote: Remote) -> None:
        row = (
            remote.url,
            remote.signature_url,
            remote.etag,
            remote.blob_key,
            remote.cache_max_age,
            remote.download_time,
        )
        statement = (
            "INSERT OR REPLACE INTO remote (aciurl, sigurl, etag, blobkey, cachemaxage, downloadtime)"
            " VALUES (?, ?, ?, ?, ?, ?)"
        )
        self._write(lambda db: db.execute(statement, row))

    def verification(self, key: str) -> tuple[str, str] | None:
        """How an image was verified, (method, detail); None when that is not known."""
        statement = "SELECT method, detail FROM verification WHERE blobkey = ?"
        rows = self._read(lambda db: db.execute(statement, (key,)).fetchall())
        return (rows[0][0], rows[0][1]) if rows else None

    def verifications(self) -> dict[str, tuple[str, str]]:
        """The same of all images, by their keys."""
        rows = self._read(
            lambda db: db.execute("SELECT blobkey, method, detail FROM verification").fetchall()
        )
        return {key: (method, detail) for key, method, detail in rows}

    def put_verification(
        self, key: str, method: str, detail: str, signature: Signature | None, *, replace: bool
    ) -> None:
        """Note how an image was verified and, if by one, the signature; an older one stays otherwise.

        ``replace`` false: only where nothing is known yet.
        """
        otherwise = "REPLACE" if replace else "IGNORE"

        def work(db: sqlite3.Connection) -> None:
            statement = "INTO verification (blobkey, method, detail) VALUES (?, ?, ?)"
            db.execute(f"INSERT OR {otherwise} {statement}", (key, method, detail))
            if signature is not None:
                row = (key, signature.kind, signature.data, signature.payload, signature.covers)
                statement = "INTO signature (blobkey, kind, data, payload, covers) VALUES (?, ?, ?, ?, ?)"
                db.execute(f"INSERT OR REPLACE {statement}", row)

        self._write(work)

    def signature(self, key: str) -> Signature | None:
        """The signature kept with an image."""
        statement = "SELECT kind, data, payload, covers FROM signature WHERE blobkey = ?"
        rows = self._read(lambda db: db.execute(statement, (key,)).fetchall())
        if not rows:
            return None
        from rkt.store.signature import Signature

        kind, data, payload, covers = rows[0]
        return Signature(kind, data, payload=payload, covers=covers)

    # Transactions

    def _infos(self, statement: str, *values: object) -> list[ImageInfo]:
        rows = self._read(lambda db: db.execute(statement, values).fetchall())
        return [
            ImageInfo(key, name, times=(imported, used), latest=latest, size=size, tree_size=tree_size)
            for key, name, imported, used, latest, size, tree_size in rows
        ]

    def _read(self, work: Callable[[sqlite3.Connection], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
        if not is_there(self._directory):
            return []
        return self._run(work, "BEGIN")

    def _write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        return self._run(work, "BEGIN IMMEDIATE")

    def _shrink(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Write what makes the index smaller, also on a full disk, which nobody could clear otherwise.

        There the journal is kept in memory: should the machine fail just then, the index is rebuilt.
        """
        try:
            return self._write(work)
        except UnwritableError as error:
            if not error.full:
                raise
        return self._run(work, "BEGIN IMMEDIATE", journal="memory")

    def _run(
        self, work: Callable[[sqlite3.Connection], Result], begin: str, *, journal: str = "delete"
    ) -> Result:
        with Lock.open(self._directory) as lock:
            lock.shared()
            try:
                return self._transaction(work, begin, journal)
            except _Rebuild as rebuild:
                reason = rebuild.reason
        with Lock.open(self._directory) as lock:
            lock.exclusive()
            self._rebuild(reason)
            # Still under the exclusive lock: nobody can damage it again in between.
            try:
                return self._transaction(work, begin, journal)
            except _Rebuild as rebuild:
                raise RktError(f"image store index {self._path} cannot be rebuilt") from RktError(
                    rebuild.reason
                )

    def _transaction(
        self, work: Callable[[sqlite3.Connection], Result], begin: str, journal: str = "delete"
    ) -> Result:
        if not os.path.lexists(self._path):
            raise _Rebuild("")
        if os.path.islink(self._path) or not os.path.isfile(self._path):
            raise RktError(f"image store index {self._path} is not a regular file")
        try:
            db = self._connect()
            try:
                if journal != "delete":
                    db.execute(f"PRAGMA journal_mode = {journal}")
                db.execute(begin)
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version > SCHEMA_VERSION:
                    raise RktError(
                        f"image store index {self._path} has schema version {version}, "
                        f"newer than version {SCHEMA_VERSION} which this rkt understands",
                        hint="use the rkt that wrote it, or another --dir",
                    )
                if version in _UPGRADES:
                    db.execute("ROLLBACK")
                    _upgrade(db)
                    db.execute(begin)
                elif version < SCHEMA_VERSION:
                    raise _Rebuild("it is empty")
                result = work(db)
                db.execute("COMMIT")
                return result
            finally:
                db.close()
        except sqlite3.Error as error:
            if _is_damage(error):
                raise _Rebuild(str(error)) from error
            raise self._failed(error) from None

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=0)
        db.execute("PRAGMA trusted_schema = OFF")
        return db

    def _rebuild(self, reason: str) -> None:
        """Make the index anew (exclusive lock of the directory held), unless somebody just did.

        The new file gets its name when it is complete and on disk; a crash before leaves the old one, or
        none, and ``index.sqlite3.new``, which the next attempt replaces.
        """
        if self._is_sound():
            return
        if os.path.lexists(self._path):
            self._notify(
                f"image store index {self._path} is damaged ({reason}), rebuilding it from the images"
            )
            # A journal belongs to the damaged file: it must not be rolled back into the new one.
            for suffix in ("-journal", ""):
                try:
                    os.rename(self._path + suffix, f"{self._path}.damaged{suffix}")
                except FileNotFoundError:
                    pass
        new = self._path + ".new"
        for leftover in (new, new + "-journal"):
            try:
                os.unlink(leftover)
            except FileNotFoundError:
                pass
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            own_file(fd)
            db = sqlite3.connect(new, isolation_level=None)
            try:
                self._fill(db)
            except sqlite3.Error as error:
                raise self._failed(error) from None
            finally:
                db.close()
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(new, self._path)
        with Lock.open(self._directory) as directory:
            os.fsync(directory.fd)

    def _fill(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.strip().split(";\n"):
            db.execute(statement)
        images, trees = self._scan()
        for info in images:
            _insert(db, info)
        db.executemany("INSERT INTO tree (id, blobkey, size) VALUES (?, ?, ?)", trees)
        for info in images:
            _sum_trees(db, info.key)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")

    def _failed(self, error: sqlite3.Error) -> RktError:
        code = _code(error)
        text = f"image store index {self._path} cannot be used: {error}"
        if code in (_SQLITE_READONLY, _SQLITE_FULL, _SQLITE_CANTOPEN):
            return UnwritableError(text, full=code == _SQLITE_FULL)
        return RktError(text)

    def _is_sound(self) -> bool:
        try:
            self._transaction(lambda db: db.execute("SELECT count(*) FROM aciinfo").fetchall(), "BEGIN")
        except _Rebuild:
            return False
        return True


class UnwritableError(RktError):
    """Nothing can be written to the index; ``full``: for want of space."""

    __slots__ = ("full",)

    def __init__(self, message: str, *, full: bool) -> None:
        super().__init__(message)
        self.full = full


class _Rebuild(Exception):
    """The index is missing or damaged."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in (_SQLITE_CORRUPT, _SQLITE_NOTADB) or "no such table" in str(error)


def _code(error: sqlite3.Error) -> int:
    """The primary result code of SQLite; 0 where there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _upgrade(db: sqlite3.Connection) -> None:
    """Bring the schema up to date in one transaction; whoever waited for it finds it done."""
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    while version in _UPGRADES:
        for statement in _UPGRADES[version].strip().split(";\n"):
            db.execute(statement)
        version += 1
        db.execute(f"PRAGMA user_version = {version}")
    db.execute("COMMIT")


def _insert(db: sqlite3.Connection, info: ImageInfo) -> None:
    db.execute(
        f"INSERT OR REPLACE INTO aciinfo ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            info.key,
            info.name,
            info.import_time,
            info.last_used,
            int(info.latest),
            info.size,
            info.tree_size,
        ),
    )


def _sum_trees(db: sqlite3.Connection, key: str) -> None:
    db.execute(
        "UPDATE aciinfo SET treestoresize = (SELECT coalesce(sum(size), 0) FROM tree WHERE blobkey = ?)"
        " WHERE blobkey = ?",
        (key, key),
    )
