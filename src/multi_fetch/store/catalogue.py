"""What is in a store and what reaches it, in a database of which little is in memory.

A store may have millions of files, and indexes as large as somebody made them. What SQLite's cache
has no room for is in a temporary file that nobody else sees, and that goes with the process: so
every question here is answered within the same memory. All here blocks.
"""

from __future__ import annotations

import os
import sqlite3
from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.errors import UnavailableError
from multi_fetch.limits import CATALOGUE_CACHE_BYTES, MAX_TOLD_NAME_BYTES
from multi_fetch.oci.digest import Digest, parse_digest
from multi_fetch.oci.layout import REF_NAME
from multi_fetch.oci.manifest import is_manifest
from multi_fetch.store.survey import Kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from multi_fetch.oci.descriptor import Descriptor

# ``rank``: of the entries that reach it, the last one in the order in which entries would go.
# ``unread``: 1 for a manifest that was reached, and whose content was not looked at yet; 0 once it
# was.
_TABLES: Final = f"""\
PRAGMA journal_mode = OFF;
PRAGMA cache_size = -{CATALOGUE_CACHE_BYTES // 1024};
CREATE TABLE entry (number INTEGER PRIMARY KEY, digest TEXT, media_type TEXT, name BLOB);
CREATE TABLE blob (digest TEXT, size INTEGER, used REAL, rank INTEGER, unread INTEGER);
CREATE TABLE gone (number INTEGER PRIMARY KEY, digest TEXT, size INTEGER, used REAL);
CREATE TABLE spared (digest TEXT PRIMARY KEY, is_refused INTEGER) WITHOUT ROWID;
CREATE TABLE struck (number INTEGER);
CREATE TABLE rest (name BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_INDEXES: Final = """\
CREATE UNIQUE INDEX blob_by_digest ON blob (digest);
CREATE INDEX entry_by_digest ON entry (digest, number);
CREATE INDEX unread_blob ON blob (unread) WHERE unread = 1;
"""

NEVER: Final = float("-inf")


class Entry(msgspec.Struct, frozen=True):
    """An entry of index.json.

    Attributes:
        digest: of what it names.
        media_type: of the same.
        name: what it is called; empty for nothing.
        used: when what it names was last used; ``NEVER``, if that is not there.
    """

    digest: Digest
    media_type: str
    name: str
    used: float = NEVER


class Listed(msgspec.Struct, frozen=True):
    """Content, and what index.json calls it.

    Attributes:
        kept: the content.
        names: as many as are told.
        more: how many there are besides.
    """

    kept: Kept
    names: tuple[str, ...] = ()
    more: int = 0


class Catalogue:
    """One look at a store, for as long as it is entered.

    Args:
        entries: of index.json, in its order.
        kept: all content.

    Attributes:
        unread: a manifest that was reached and could not be looked into, or None.

    Raises:
        UnavailableError: there is no room for the temporary file; also for all that is asked.
    """

    def __init__(self, entries: Iterable[Descriptor], kept: Iterable[Kept]) -> None:
        self._entries = entries
        self._kept = kept
        self.unread: Digest | None = None
        self._db = sqlite3.connect("", isolation_level=None)

    def __enter__(self) -> Self:
        try:
            self._db.executescript(_TABLES)
            self._db.execute("BEGIN")
            self._db.executemany(
                "INSERT INTO entry (digest, media_type, name) VALUES (?, ?, ?)",
                ((each.digest, each.media_type, _name_bytes(each)) for each in self._entries),
            )
            self._db.executemany(
                "INSERT INTO blob (digest, size, used) VALUES (?, ?, ?)",
                ((each.digest, each.size, each.used) for each in self._kept),
            )
            self._db.executescript(_INDEXES)
            self._db.execute("BEGIN")
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()
        if isinstance(error, sqlite3.Error):
            raise UnavailableError(
                f"what is there cannot be noted in a temporary file: {error}; make room, or set"
                " SQLITE_TMPDIR to a folder that has some"
            ) from error

    def listed(self) -> Iterator[Listed]:
        """All content in the order of its digests."""
        rows = self._db.execute(
            "SELECT blob.digest, size, used, name FROM blob LEFT JOIN entry"
            " ON entry.digest = blob.digest AND name != x'' ORDER BY blob.digest, number"
        )
        for (digest, size, used), group in groupby(rows, key=lambda row: row[:3]):
            names: list[str] = []
            room, more = MAX_TOLD_NAME_BYTES, 0
            for *_, name in group:
                if name is None:
                    continue
                room -= len(name)
                if room >= 0 or not names:
                    names.append(_name(name))
                else:
                    more += 1
            yield Listed(_kept(digest, size, used), tuple(names), more)

    def missing(self) -> Iterator[Entry]:
        """Entries of which the content is not there, in their order."""
        for digest, media_type, name in self._db.execute(
            "SELECT digest, media_type, name FROM entry WHERE NOT EXISTS"
            " (SELECT 1 FROM blob WHERE blob.digest = entry.digest) ORDER BY number"
        ):
            yield Entry(parse_digest(digest), media_type, _name(name))

    # --- what reaches what ------------------------------------------------------------------

    def order(self) -> Sequence[int]:
        """The numbers of all entries, the least recently used first."""
        return [
            number
            for (number,) in self._db.execute(
                "SELECT number FROM entry LEFT JOIN blob USING (digest)"
                " ORDER BY used IS NOT NULL, used, number"
            )
        ]

    def entry(self, number: int) -> Entry:
        """One of them."""
        digest, media_type, name, used = self._db.execute(
            "SELECT digest, media_type, name, used FROM entry LEFT JOIN blob USING (digest)"
            " WHERE number = ?",
            (number,),
        ).fetchone()
        return Entry(parse_digest(digest), media_type, _name(name), NEVER if used is None else used)

    def reach(self, rank: int, found: Iterable[Descriptor | Entry]) -> None:
        """Notes that an entry reaches content, if none does that was noted before.

        Args:
            rank: of the entry.
            found: content, of which manifests are to be looked into by ``next_unread``.
        """
        self._db.executemany(
            "UPDATE blob SET rank = ifnull(rank, ?), unread = ifnull(unread, ?) WHERE digest = ?",
            ((rank, 1 if is_manifest(each.media_type) else None, each.digest) for each in found),
        )

    def reach_all(self, rank: int, unread: Digest) -> None:
        """Notes that an entry may reach anything, by way of a manifest that cannot be read."""
        self.unread = unread
        self._db.execute("UPDATE blob SET rank = ? WHERE rank IS NULL", (rank,))

    def next_unread(self) -> Digest | None:
        """A manifest that was reached; each once, and None at the end."""
        row = self._db.execute("SELECT rowid, digest FROM blob WHERE unread = 1 LIMIT 1").fetchone()
        if row is None:
            return None
        self._db.execute("UPDATE blob SET unread = 0 WHERE rowid = ?", row[:1])
        return parse_digest(row[1])

    # --- what goes --------------------------------------------------------------------------

    def total_bytes(self) -> int:
        """Of all content."""
        (total,) = self._db.execute("SELECT sum(size) FROM blob").fetchone()
        return int(total or 0)

    def index_ranks(self) -> None:
        """Says that all that is reached is noted; to be called before ``last_reached_by``."""
        self._db.execute("CREATE INDEX blob_by_rank ON blob (rank, used, digest)")

    def last_reached_by(self, rank: int | None) -> Iterator[Kept]:
        """Content that no later entry reaches, or none at all; the least recently used first."""
        for row in self._db.execute(
            "SELECT digest, size, used FROM blob WHERE rank IS ? ORDER BY used, digest", (rank,)
        ):
            yield _kept(*row)

    def drop(self, kept: Kept) -> None:
        """Notes that content goes."""
        self._db.execute(
            "INSERT INTO gone (digest, size, used) VALUES (?, ?, ?)",
            (kept.digest, kept.size, kept.used),
        )

    def spare(self, kept: Kept) -> None:
        """Notes that it stays after all, as somebody has used it."""
        self._db.execute("INSERT INTO spared VALUES (?, 0)", (kept.digest,))

    def refuse(self, kept: Kept) -> None:
        """Notes that it stays after all, as it cannot be removed."""
        self._db.execute("INSERT INTO spared VALUES (?, 1)", (kept.digest,))

    def refused(self) -> Iterator[Digest]:
        """What cannot be removed, in the order of the digests."""
        rows = self._db.execute("SELECT digest FROM spared WHERE is_refused ORDER BY digest")
        yield from (parse_digest(digest) for (digest,) in rows)

    def strike(self, number: int) -> None:
        """Notes that an entry goes."""
        self._db.execute("INSERT INTO struck VALUES (?)", (number,))

    def dropped(self) -> Iterator[Kept]:
        """What goes and is not spared, in the order in which that was noted."""
        for row in self._db.execute(
            "SELECT digest, size, used FROM gone WHERE digest NOT IN"
            " (SELECT digest FROM spared) ORDER BY number"
        ):
            yield _kept(*row)

    def struck(self) -> Iterator[Entry]:
        """The same for entries."""
        rows = self._db.execute("SELECT number FROM struck ORDER BY rowid")
        yield from (self.entry(number) for (number,) in rows)

    def leave_rest(self, name: str) -> None:
        """Notes an unfinished file that goes."""
        self._db.execute("INSERT INTO rest VALUES (?)", (os.fsencode(name),))

    def rests(self) -> Iterator[str]:
        """Those, in the order of their names."""
        for (name,) in self._db.execute("SELECT name FROM rest ORDER BY name"):
            yield os.fsdecode(name)


def _kept(digest: str, size: int, used: float) -> Kept:
    return Kept(parse_digest(digest), size, used)


def _name_bytes(entry: Descriptor) -> bytes:
    return entry.annotations.get(REF_NAME, "").encode("utf-8", "surrogatepass")


def _name(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
