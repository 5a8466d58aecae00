"""A look at a store, from which every question is answered in the order that users see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import UnavailableError
from multi_fetch.limits import MAX_TOLD_NAME_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.layout import REF_NAME
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.store.catalogue import NEVER, Catalogue
from multi_fetch.store.survey import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator


def entry(content: str, name: str = "") -> Descriptor:
    annotations = {REF_NAME: name} if name else {}
    return Descriptor(
        media_type=OCI_MANIFEST, digest=digest_of(content.encode()), size=1, annotations=annotations
    )


def kept(content: str, used: float = 0.0, size: int = 7) -> Kept:
    return Kept(digest_of(content.encode()), size, used)


def test_content_is_listed_in_the_order_of_its_digests_with_its_names_in_theirs() -> None:
    there = [kept(name, used=0.25) for name in "abcd"]
    names = ["z:2", "a:1", "\N{GREEK SMALL LETTER OMEGA}\0"]
    entries = [entry("a", names[0]), entry("b"), entry("a", names[1]), entry("a", names[2])]
    with Catalogue(entries, iter(there)) as catalogue:
        listed = list(catalogue.listed())
    assert [each.kept for each in listed] == sorted(there, key=lambda each: each.digest)
    assert {each.kept.digest: each.names for each in listed if each.names} == {
        digest_of(b"a"): tuple(names)
    }
    assert not any(each.more for each in listed)


def test_names_beyond_a_bound_are_counted_and_each_content_has_one_at_least() -> None:
    long = "x" * (MAX_TOLD_NAME_BYTES // 2)
    entries = [entry("a", f"{long}{number}"[number:]) for number in range(5)]
    entries += [entry("b", long * 3), entry("b", "short")]
    with Catalogue(entries, [kept("a"), kept("b")]) as catalogue:
        found = {each.kept.digest: each for each in catalogue.listed()}
    of_a, of_b = found[digest_of(b"a")], found[digest_of(b"b")]
    assert (len(of_a.names), of_a.more) == (1, 4)
    assert (len(of_b.names), of_b.more) == (1, 1)


def test_entries_are_in_the_order_of_their_use_and_first_what_is_not_there() -> None:
    entries = [entry("new", "1"), entry("gone", "2"), entry("old", "3"), entry("old", "4")]
    with Catalogue(entries, [kept("new", 9.0), kept("old", 3.0)]) as catalogue:
        found = [catalogue.entry(number) for number in catalogue.order()]
        missing = list(catalogue.missing())
    assert [(each.name, each.used) for each in found] == [
        ("2", NEVER),
        ("3", 3.0),
        ("4", 3.0),
        ("1", 9.0),
    ]
    assert [each.name for each in missing] == ["2"]


def test_what_goes_is_told_in_the_order_in_which_it_was_noted() -> None:
    there = [kept(name, size=1 << 40) for name in "cab"]
    entries = [entry("c", "1"), entry("a", "2")]
    with Catalogue(entries, there) as catalogue:
        assert catalogue.total_bytes() == 3 << 40
        for each in there:
            catalogue.drop(each)
        first, second = catalogue.order()
        for number in (second, first):
            catalogue.strike(number)
        for name in ("b", "a\udcff", "a"):
            catalogue.leave_rest(name)
        assert list(catalogue.dropped()) == there
        assert [each.name for each in catalogue.struck()] == ["2", "1"]
        assert list(catalogue.rests()) == ["a", "a\udcff", "b"]


def test_an_empty_store_has_no_bytes() -> None:
    with Catalogue([], []) as catalogue:
        assert catalogue.total_bytes() == 0
        assert not list(catalogue.listed())


def test_where_there_is_no_room_that_is_told_with_what_to_do() -> None:
    def fill() -> None:
        with Catalogue([], [kept("a")]) as catalogue:
            catalogue._db.execute("PRAGMA max_page_count = 1")
            for _ in range(10_000):
                catalogue.drop(kept("a"))

    with pytest.raises(UnavailableError, match="SQLITE_TMPDIR"):
        fill()


def test_what_goes_wrong_elsewhere_is_raised_as_it_is() -> None:
    def failing() -> Iterator[Kept]:
        yield kept("a")
        raise PermissionError

    with pytest.raises(PermissionError), Catalogue([], failing()):
        raise AssertionError("it was not entered")
