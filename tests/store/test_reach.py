"""What an entry reaches, and which is the last to do so."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from multi_fetch.errors import TooLargeError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.media_types import DOCKER_SCHEMA1, OCI_INDEX, OCTET_STREAM
from multi_fetch.store.catalogue import Catalogue
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.reach import note_reached
from multi_fetch.store.survey import Kept, children_in, kept_in, roots_in
from multi_fetch.testing.builder import LayoutBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def reached(folder: StoreFolder) -> list[set[Digest]]:
    """Of each entry, as if it were alone."""
    found = []
    for root in roots_in(folder):
        with Catalogue([root], kept_in(folder)) as catalogue:
            note_reached(catalogue, catalogue.order(), partial(children_in, folder))
            assert catalogue.unread is None
            found.append({each.digest for each in catalogue.last_reached_by(0)})
    return found


def test_an_entry_reaches_all_below_it_at_any_depth(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    empty, shared, own = builder.add_empty(), builder.add_blob(b"a"), builder.add_blob(b"b")
    builder.add_blob(b"free")
    one, two = builder.add_image(empty, [shared]), builder.add_image(empty, [shared, own])
    inner = builder.add_index([two])
    outer = builder.add_index([inner])
    builder.tag("one", one)
    builder.tag("outer", outer)
    builder.finish()
    assert reached(StoreFolder(str(tmp_path))) == [
        {each.digest for each in (one, empty, shared)},
        {each.digest for each in (outer, inner, two, empty, shared, own)},
    ]


def test_who_calls_a_manifest_something_else_hides_nothing_that_is_below_it(
    tmp_path: Path,
) -> None:
    """Of two that reach it, the one that is wrong about it may be looked at first."""
    builder = LayoutBuilder(tmp_path)
    image = builder.add_image(builder.add_empty(), [layer := builder.add_blob(b"layer")])
    builder.tag("good", image)
    builder.tag("evil", builder.add_index([replace(image, media_type=DOCKER_SCHEMA1)]))
    builder.finish()
    good, evil = reached(StoreFolder(str(tmp_path)))
    assert layer.digest in good & evil


# --- any graph ------------------------------------------------------------------------------

NAMES = "abcdef"


def digest(name: str) -> Digest:
    return digest_of(name.encode())


def described(name: str, media_type: str = OCI_INDEX) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest(name), size=1)


def noted(
    below: Mapping[str, Sequence[str]], roots: Sequence[str], vast: str = ""
) -> dict[str, int | None]:
    """By the name of content, the rank of the last entry that reaches it."""
    names = {digest(name): name for name in NAMES}

    def children_of(of: Digest) -> list[Descriptor]:
        if names[of] == vast:
            raise TooLargeError("it names too much")
        return [described(name) for name in below.get(names[of], ())]

    # Used in the order of the roots, so that this is the order in which they would go.
    used = {name: float(rank) for rank, name in enumerate(roots)}
    kept = [Kept(digest(name), 1, used.get(name, 9.0)) for name in NAMES]
    with Catalogue([described(name) for name in roots], kept) as catalogue:
        note_reached(catalogue, catalogue.order(), children_of)
        ranks = [None, *range(len(roots))]
        return {
            names[each.digest]: rank for rank in ranks for each in catalogue.last_reached_by(rank)
        }


def all_below(below: Mapping[str, Sequence[str]], name: str) -> set[str]:
    found, left = set(), [name]
    while left:
        if (each := left.pop()) not in found:
            found.add(each)
            left.extend(below.get(each, ()))
    return found


graphs = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4))


@given(graphs, st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
def test_the_last_entry_that_reaches_content_is_noted_cycles_or_not(
    below: dict[str, list[str]], roots: list[str]
) -> None:
    expected: dict[str, int | None] = dict.fromkeys(NAMES)
    for rank, root in enumerate(roots):
        expected |= dict.fromkeys(all_below(below, root), rank)
    assert noted(below, roots) == expected


@given(graphs, st.lists(st.sampled_from(NAMES), unique=True, max_size=4), st.sampled_from(NAMES))
def test_an_entry_that_leads_to_what_cannot_be_looked_into_may_reach_all(
    below: dict[str, list[str]], roots: list[str], vast: str
) -> None:
    """What a later entry reaches goes no earlier than without that."""
    without = noted(below, roots)
    leads = [rank for rank, root in enumerate(roots) if vast in all_below(below, root)]
    if not leads:
        assert noted(below, roots, vast) == without
        return
    for name, rank in noted(below, roots, vast).items():
        assert rank is not None
        assert rank >= leads[-1] or rank == without[name]
        before = without[name]
        assert before is None or rank >= min(before, leads[-1])


def test_what_one_calls_a_blob_is_looked_into_where_another_calls_it_a_manifest() -> None:
    blob, manifest = described("a", OCTET_STREAM), described("a")
    kept = [Kept(digest(name), 1, 0.0) for name in "ab"]
    for entries in ([blob, manifest], [manifest, blob]):
        with Catalogue(entries, kept) as catalogue:
            note_reached(catalogue, catalogue.order(), lambda *_: [described("b", OCTET_STREAM)])
            assert not list(catalogue.last_reached_by(None))
