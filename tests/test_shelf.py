"""What is known of layouts is bounded, and what is in use stays."""

from __future__ import annotations

import threading
from functools import partial

from multi_fetch.shelf import Book, Shelf, Shelves

MOST = 100


class Library:
    """Books that are read when they are used, if they are not known.

    Attributes:
        shelf: theirs.
        known: the names of those that are.
    """

    def __init__(self) -> None:
        self.shelf = Shelf(MOST)
        self.known: list[str] = []
        self._books: dict[str, Book] = {}

    def book(self, name: str) -> Book:
        return self._books.setdefault(name, Book(partial(self.known.remove, name)))

    def read(self, name: str, size: int, *, most: int = 0) -> None:
        """In a block that uses the book."""
        self.shelf.reserve(self.book(name), most or size)
        self.known.append(name)
        self.shelf.settle(self.book(name), size)

    def use(self, name: str, size: int, *, most: int = 0) -> None:
        with self.shelf.using(self.book(name)):
            if name not in self.known:
                self.read(name, size, most=most)


def test_what_was_used_longest_ago_gives_way() -> None:
    library = Library()
    for name in ("a", "b", "a", "c"):
        library.use(name, 40)
    assert library.known == ["a", "c"]
    assert library.shelf.taken == 80


def test_room_is_made_for_all_that_an_index_may_take_until_it_was_read() -> None:
    library = Library()
    for name in ("a", "b", "c"):
        library.use(name, 10)
    library.use("d", 10, most=85)
    assert library.known == ["c", "d"]
    library.use("e", 10)
    assert library.known == ["c", "d", "e"]


def test_what_is_read_anew_is_forgotten_first() -> None:
    library = Library()
    library.use("a", 90)
    with library.shelf.using(library.book("a")):
        library.read("a", 95)
    assert library.known == ["a"]
    assert library.shelf.taken == 95


def test_what_could_not_be_read_takes_nothing() -> None:
    library = Library()
    with library.shelf.using(library.book("a")):
        library.shelf.reserve(library.book("a"), MOST)
        library.shelf.settle(library.book("a"), 0)
    assert library.shelf.taken == 0
    library.use("b", MOST)
    assert library.known == ["b"]


def test_what_is_larger_than_the_shelf_is_alone_on_it() -> None:
    library = Library()
    library.use("a", 10)
    library.use("b", 2 * MOST)
    assert library.known == ["b"]


def test_what_is_in_use_stays_and_who_needs_its_room_waits() -> None:
    library = Library()
    is_waiting, done = threading.Event(), threading.Event()

    def read() -> None:
        with library.shelf.using(library.book("b")):
            is_waiting.set()
            library.read("b", 60)
            done.set()

    other = threading.Thread(target=read)
    with library.shelf.using(library.book("a")):
        library.read("a", 60)
        other.start()
        assert is_waiting.wait(10)
        assert library.known == ["a"]
        assert not done.is_set()
    assert done.wait(10)
    other.join()
    assert library.known == ["b"]


def test_an_index_and_its_archive_are_on_shelves_of_their_own() -> None:
    """Who uses an index opens a file of its archive, and waits for no one then who wants both."""
    shelves = Shelves()
    assert shelves.indexes is not shelves.archives
