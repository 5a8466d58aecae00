"""What is known of layouts, all together: so much, and what was used longest ago gives way.

With the remote ``-`` lines name any number of layouts and archives, and each has an index that is
kept for its next object. All here blocks: it is for threads.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING

from multi_fetch.limits import MAX_ARCHIVE_MEMORY, MAX_LAYOUT_INDEX_MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Shelf:
    """Room for indexes.

    Args:
        most: bytes that they may take together.

    Attributes:
        taken: bytes that they take, or may take once they are read.
    """

    def __init__(self, most: int) -> None:
        self.taken = 0
        self._most = most
        self._change = Condition()
        # Those that nobody uses at the moment, the one that was used longest ago first.
        self._unused: dict[Book, None] = {}

    @contextmanager
    def using(self, book: Book) -> Iterator[None]:
        """What is known stays for this block, in which one thread uses it."""
        with self._change:
            self._unused.pop(book, None)
            book.users += 1
        try:
            yield
        finally:
            with self._change:
                book.users -= 1
                if not book.users:
                    self._unused[book] = None
                self._change.notify_all()

    def reserve(self, book: Book, most: int) -> None:
        """Waits until there is room for an index that is about to be read; it is in use.

        What was known of the book before is forgotten first, so nobody waits who has room.

        Args:
            book: whose.
            most: bytes that it may take; one that may take all there is waits to be alone.
        """
        with self._change:
            self._forget(book)
            while self.taken and self.taken + most > self._most:
                oldest = next((each for each in self._unused if each.size), None)
                if oldest is not None:
                    self._forget(oldest)
                else:
                    self._change.wait()
            self._resize(book, most)

    def settle(self, book: Book, size: int) -> None:
        """Says what an index takes, now that it was read; nothing where that failed."""
        with self._change:
            self._resize(book, size)
            self._change.notify_all()

    def _forget(self, book: Book) -> None:
        if book.size:
            book.forget()
            self._resize(book, 0)

    def _resize(self, book: Book, size: int) -> None:
        self.taken += size - book.size
        book.size = size


class Book:
    """One layout's index on the shelf.

    Args:
        forget: called to have it forgotten, from any thread, while nobody uses it or its user asks.

    Attributes:
        size: bytes that it takes.
        users: threads that use it.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        self.forget = forget
        self.size = 0
        self.users = 0


class Shelves:
    """The shelves of one run: who uses an index may need an archive's, but never the reverse.

    Attributes:
        indexes: for what ``index.json`` files say.
        archives: for where files lie in archives.
    """

    def __init__(self) -> None:
        self.indexes = Shelf(MAX_LAYOUT_INDEX_MEMORY)
        self.archives = Shelf(MAX_ARCHIVE_MEMORY)
