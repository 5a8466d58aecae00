"""What goes, what stays, and in which order."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from multi_fetch.limits import MAX_CHILDREN
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.layout import REF_NAME
from multi_fetch.oci.media_types import OCI_MANIFEST, OCTET_STREAM
from multi_fetch.store.catalogue import Catalogue
from multi_fetch.store.folder import RECORDS_FOLDER, StoreFolder
from multi_fetch.store.ingest import Ingest, claim
from multi_fetch.store.names import Names
from multi_fetch.store.prune import REST_SECONDS, USE_SECONDS, Wanted, plan, prune
from multi_fetch.store.survey import Kept
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.layout import read_layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

NOW = 1_000_000.0
ALL = Wanted(unused_seconds=0)


def digest(name: str) -> Digest:
    return digest_of(name.encode())


def kept(name: str, age: float, size: int = 10) -> Kept:
    return Kept(digest(name), size, NOW - age)


def described(name: str, media_type: str = OCTET_STREAM) -> Descriptor:
    annotations = {REF_NAME: name}
    return Descriptor(media_type=media_type, digest=digest(name), size=1, annotations=annotations)


class Root(NamedTuple):
    """An entry by its name, and what is below it."""

    name: str
    below: Sequence[str]


def root(name: str, *below: str) -> Root:
    return Root(name, below)


def gone(found: list[Kept], roots: list[Root], wanted: Wanted) -> tuple[list[str], list[str]]:
    names = {digest(each): each for each in "abcdefgh"}
    below = {digest(each.name): [described(name) for name in each.below] for each in roots}
    entries = [described(each.name, OCI_MANIFEST) for each in roots]
    with Catalogue(entries, found) as catalogue:
        plan(catalogue, lambda digest: below[digest], wanted, NOW)
        content = [names[each.digest] for each in catalogue.dropped()]
        return content, [each.name for each in catalogue.struck()]


DAY = 86_400.0


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        (Wanted(), ["c", "b"]),
        (ALL, ["c", "b", "a"]),
        (Wanted(unused_seconds=2 * DAY), ["c"]),
        (Wanted(unused_seconds=9 * DAY), []),
        (Wanted(most_bytes=40), []),
        (Wanted(most_bytes=25), ["c"]),
        (Wanted(most_bytes=10), ["c", "b"]),
        # What was used a moment ago stays, however large the rest is.
        (Wanted(most_bytes=0), ["c", "b"]),
        (Wanted(most_bytes=25, unused_seconds=9 * DAY), ["c"]),
        (Wanted(most_bytes=25, unused_seconds=DAY), ["c", "b"]),
    ],
)
def test_the_least_recently_used_goes_first_until_it_is_enough(
    wanted: Wanted, content: list[str]
) -> None:
    found = [kept("a", 60), kept("b", DAY), kept("c", 3 * DAY)]
    assert gone(found, [], wanted) == (content, [])


def test_what_a_tag_reaches_stays_until_told() -> None:
    found = [kept(name, 5 * DAY) for name in "abcd"]
    roots = [root("a", "b")]
    assert sorted(gone(found, roots, ALL)[0]) == ["c", "d"]
    content, names = gone(found, roots, Wanted(unused_seconds=0, may_names_go=True))
    assert (sorted(content), names) == (["a", "b", "c", "d"], ["a"])


def test_names_go_as_a_whole_and_leave_what_others_share() -> None:
    found = [kept("a", 5 * DAY), kept("b", 9 * DAY), kept("c", 60), kept("d", 9 * DAY)]
    roots = [root("a", "b", "d"), root("c", "d")]
    wanted = Wanted(unused_seconds=DAY, may_names_go=True)
    assert gone(found, roots, wanted) == (["b", "a"], ["a"])
    assert gone(found, roots, Wanted(most_bytes=40, may_names_go=True)) == ([], [])
    assert gone(found, roots, Wanted(most_bytes=30, may_names_go=True))[1] == ["a"]


def test_a_name_without_content_goes_first() -> None:
    roots = [root("a"), root("h")]
    wanted = Wanted(unused_seconds=DAY, may_names_go=True)
    assert gone([kept("a", 60)], roots, wanted) == ([], ["h"])


# --- on a disk ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> StoreFolder:
    """Two tags, which share a blob, and one that nobody names."""
    builder = LayoutBuilder(tmp_path)
    shared, own, _ = (builder.add_blob(name) for name in (b"shared", b"own", b"free"))
    for name, layers in (("one", [shared]), ("two", [shared, own])):
        image = builder.add_image(builder.add_empty(), layers)
        builder.tag(f"a.example/a:{name}", image)
    builder.finish()
    made = StoreFolder(str(tmp_path))
    made.prepare()
    for path in (tmp_path / "blobs" / "sha256").iterdir():
        os.utime(path, (NOW, NOW))
    return made


def there(folder: StoreFolder) -> set[str]:
    return {path.name for path in (folder.path / "blobs" / "sha256").iterdir()}


class Done(NamedTuple):
    """What went."""

    content: list[Digest]
    names: list[str]
    rests: list[str]
    unread: Digest | None


def pruned(folder: StoreFolder, wanted: Wanted, *, is_dry: bool = False) -> Done:
    with prune(folder, Names(folder), wanted, is_dry=is_dry) as done:
        return Done(
            [each.digest for each in done.dropped()],
            [each.name for each in done.struck()],
            list(done.rests()),
            done.unread,
        )


def test_a_dry_run_says_the_same_and_removes_nothing(folder: StoreFolder) -> None:
    before, index = there(folder), folder.index.read_bytes()
    wanted = Wanted(unused_seconds=0, may_names_go=True)
    said = pruned(folder, wanted, is_dry=True)
    assert (there(folder), folder.index.read_bytes()) == (before, index)
    assert pruned(folder, wanted) == said
    assert there(folder) == set()
    assert read_layout(folder.path).tags == {}


def test_what_is_left_is_a_whole_layout(folder: StoreFolder) -> None:
    done = pruned(folder, Wanted())
    assert done.content == [digest("free")]
    layout = read_layout(folder.path)
    assert set(layout.tags) == {"a.example/a:one", "a.example/a:two"}
    assert len(there(folder)) == 5


def test_what_a_manifest_that_names_too_much_may_name_stays_until_its_tag_has_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A tag that was used longer ago may go all the same, but nothing below it."""
    builder = LayoutBuilder(tmp_path)
    free = builder.add_blob(b"free")
    named = [described(str(number)) for number in range(MAX_CHILDREN + 1)]
    builder.tag("a.example/a:vast", builder.add_index(named))
    builder.tag("a.example/a:old", builder.add_image(builder.add_empty(), []))
    builder.finish()
    folder = StoreFolder(str(tmp_path))
    folder.prepare()
    vast = builder.add_index(named).digest
    for path in (tmp_path / "blobs" / "sha256").iterdir():
        used = NOW + (path.name == vast.encoded)
        os.utime(path, (used, used))
    assert pruned(folder, ALL) == Done([], [], [], vast)
    assert vars(caplog.records[0])["digest"] == vast
    old = pruned(folder, Wanted(unused_seconds=time.time() - NOW - 0.5, may_names_go=True))
    assert old == Done([], ["a.example/a:old"], [], vast)
    everything = pruned(folder, Wanted(unused_seconds=0, may_names_go=True))
    assert set(everything.content) > {vast, free.digest}
    assert there(folder) == set()


def no_manifest(path: Path, kind: str) -> None:
    """Puts something else in a manifest's place."""
    path.unlink()
    match kind:
        case "damaged":
            path.write_bytes(b"{")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link":
            outside = path.parent.parent.parent.parent / "outside"
            outside.write_text("{}")
            path.symlink_to(outside)


@pytest.mark.parametrize("kind", ["damaged", "folder", "fifo", "link"])
def test_what_a_manifest_that_cannot_be_read_may_name_stays(tmp_path: Path, kind: str) -> None:
    """It may have named what nothing else reaches; and a link to elsewhere says nothing of it."""
    builder = LayoutBuilder(tmp_path / "store")
    builder.tag("a.example/a:1", image := builder.add_image(builder.add_empty(), []))
    free = builder.add_blob(b"free")
    builder.finish()
    folder = StoreFolder(str(tmp_path / "store"))
    folder.prepare()
    no_manifest(folder.blob(image.digest), kind)
    assert pruned(folder, ALL) == Done([], [], [], image.digest)
    assert free.digest.encoded in there(folder)


def test_a_folder_of_a_digests_name_is_left_and_the_rest_goes(
    folder: StoreFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder.blob(digest("a folder"))
    path.mkdir()
    (path / "precious").touch()
    os.utime(path, (NOW - 1, NOW - 1))  # so it would be the first to go
    for is_dry in (True, False):
        with prune(folder, Names(folder), Wanted(), is_dry=is_dry) as done:
            assert [each.digest for each in done.dropped()] == [digest("free")]
            assert list(done.refused()) == [digest("a folder")]
    assert (path / "precious").exists()
    assert [vars(each)["error"] for each in caplog.records] == [f"{path}: Is a directory"]


class UsedMeanwhile(Names):
    """Somebody uses a file once it was chosen to go."""

    used: Path

    def forget(self, digests: AbstractSet[Digest]) -> None:
        super().forget(digests)
        self.used.touch()


@pytest.mark.parametrize("has_record", [False, True])
def test_what_is_used_once_it_was_chosen_to_go_stays(
    folder: StoreFolder, *, has_record: bool
) -> None:
    names = UsedMeanwhile(folder)
    names.used = folder.blob(digest("free"))
    if has_record:
        names.used = folder.path / RECORDS_FOLDER / "sha256" / digest("free").encoded
        names.used.parent.mkdir(parents=True)
    wanted = Wanted(unused_seconds=0, may_names_go=True)
    with prune(folder, names, wanted, is_dry=False) as done:
        gone = [each.digest for each in done.dropped()]
    assert len(gone) == 5
    assert there(folder) == {digest("free").encoded}


def test_unfinished_files_go_unless_somebody_writes_them_or_may_do_so_elsewhere(
    folder: StoreFolder,
) -> None:
    def unfinished(name: str, age: float) -> Path:
        path = folder.ingests / name
        path.write_bytes(b"rest")
        os.utime(path, (time.time() - age, time.time() - age))
        return path

    held = claim(folder, digest("held"), is_patient=True)
    assert isinstance(held, Ingest)
    held.write(b"rest")
    old = unfinished(folder.shared_ingest(digest("old")).name, 2 * REST_SECONDS)
    new = unfinished(folder.shared_ingest(digest("new")).name, 60)
    elsewhere = unfinished("sha256-aa.othermachine", 3600)
    done = pruned(folder, Wanted())
    assert done.rests == [old.name]
    done = pruned(folder, ALL)
    assert done.rests == [new.name]
    assert elsewhere.exists()
    assert folder.shared_ingest(digest("held")).exists()
    assert folder.index_lock.exists()
    held.discard()


def test_a_file_that_another_has_begun_meanwhile_stays(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.shared_ingest(digest("old"))
    path.write_bytes(b"old")
    real = fcntl.flock

    def late(fd: int, operation: int) -> None:
        if os.path.sameopenfile(fd, begun.fileno()):
            path.unlink()
            path.write_bytes(b"new")
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with path.open("rb") as begun:
        assert pruned(folder, ALL).rests == []
    assert path.read_bytes() == b"new"


def test_what_is_used_again_while_it_waits_to_be_pruned_is_new(folder: StoreFolder) -> None:
    os.utime(folder.blob(digest("free")), None)
    done = pruned(folder, Wanted(most_bytes=0))
    assert done.content == []
    assert USE_SECONDS > 3600


def test_a_use_that_a_record_has_counts_and_records_go_with_their_files(
    folder: StoreFolder,
) -> None:
    records = folder.path / RECORDS_FOLDER / "sha256"
    records.mkdir(parents=True)
    for name in ("free", "own", "never there"):
        (records / digest(name).encoded).touch()
    assert pruned(folder, Wanted()).content == []
    assert {path.name for path in records.iterdir()} == {
        digest(name).encoded for name in ("free", "own")
    }
    os.utime(records / digest("free").encoded, (NOW, NOW))
    pruned(folder, Wanted(), is_dry=True)
    assert pruned(folder, Wanted()).content == [digest("free")]
    assert {path.name for path in records.iterdir()} == {digest("own").encoded}


@pytest.mark.parametrize(
    "name", ["blobs", "blobs/x", "blobs/sha256", "ingest", "verified", "verified/sha256"]
)
def test_nothing_is_removed_where_a_link_leads_out(tmp_path: Path, name: str) -> None:
    store = StoreFolder(str(tmp_path / "store"))
    store.prepare()
    others = [tmp_path / "home" / each for each in ("key", digest("a").encoded, "mail/inbox")]
    for each in others:
        each.parent.mkdir(parents=True, exist_ok=True)
        each.touch()
        os.utime(each, (0, 0))
    place = store.path / name
    if place.is_dir():
        for each in place.iterdir():
            each.unlink()
        place.rmdir()
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "home", target_is_directory=True)
    try:
        pruned(store, ALL)
    except NotADirectoryError:
        assert name in {"blobs", "ingest"}
    assert all(each.exists() for each in others)
