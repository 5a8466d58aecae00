"""index.json as the list of what is called how."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from sys import getsizeof
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from multi_fetch.errors import RegistryError, TooLargeError
from multi_fetch.limits import LAYOUT_ENTRY_MEMORY, MAX_LAYOUT_ENTRY_BYTES
from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.layout import REF_NAME, parse_layout_index
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST
from multi_fetch.oci.reference import Reference
from multi_fetch.store import names as names_module
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.lock import locked
from multi_fetch.store.names import Names, bare_tag, tag_with_locator, whole_name

if TYPE_CHECKING:
    from pathlib import Path


def described(text: str) -> Descriptor:
    return Descriptor(
        media_type=OCI_MANIFEST,
        digest=digest_of(text.encode()),
        size=len(text),
        platform=Platform(os="linux", architecture="arm64"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> StoreFolder:
    made = StoreFolder(str(tmp_path))
    made.prepare()
    return made


def found_digest(names: Names) -> str | None:
    found = names.find("a.example/a:1")
    return None if found is None else found.digest


def entries(folder: StoreFolder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(folder.index.read_bytes())["manifests"]
    return found


def test_a_name_is_found_at_once_and_by_others_after_the_flush(folder: StoreFolder) -> None:
    ours, others = Names(folder), Names(folder)
    assert ours.find("a.example/a:1") is None
    assert ours.add("a.example/a:1", described("one"))
    assert found_digest(ours) == described("one").digest
    assert others.find("a.example/a:1") is None
    ours.flush()
    found = others.find("a.example/a:1")
    assert found is not None
    # What an index said of it is not the name's.
    assert (found.digest, found.platform) == (described("one").digest, None)
    assert not ours.add("a.example/a:1", described("one"))


def test_a_name_that_moves_has_one_entry(folder: StoreFolder) -> None:
    names = Names(folder)
    for text in ("one", "two"):
        names.add("a.example/a:1", described(text))
        names.flush()
    (entry,) = entries(folder)
    assert entry["digest"] == described("two").digest
    assert Names(folder).find("a.example/a:1") is not None


def test_what_other_tools_wrote_stays_as_it_is(folder: StoreFolder) -> None:
    foreign = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": described("other").digest,
            "size": 5,
            "newField": [1, {}],
            "annotations": {REF_NAME: "latest", "own": "x"},
        },
        {"mediaType": OCI_MANIFEST, "digest": described("more").digest, "size": 4},
    ]
    document = {"schemaVersion": 2, "manifests": foreign, "annotations": {"a": "b"}}
    folder.index.write_text(json.dumps(document))
    names = Names(folder)
    names.add("a.example/a:1", described("one"))
    names.flush()
    written = json.loads(folder.index.read_bytes())
    assert written["annotations"] == {"a": "b"}
    assert written["manifests"][:2] == foreign
    assert parse_layout_index(folder.index.read_bytes()).tags.keys() == {"latest", "a.example/a:1"}


def test_of_too_many_names_the_oldest_are_forgotten_and_no_tag_of_others(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "MAX_STORE_NAMES", 3)
    tagged = {"mediaType": OCI_MANIFEST, "digest": described("x").digest, "size": 1}
    tagged = {**tagged, "annotations": {REF_NAME: "latest"}}
    folder.index.write_text(json.dumps({"schemaVersion": 2, "manifests": [tagged]}))
    names = Names(folder)
    for number in range(7):
        names.add(f"a.example/a:{number}", described(str(number)))
        if number % 2:
            names.flush()
    names.flush()
    kept = [entry["annotations"][REF_NAME] for entry in entries(folder)]
    assert kept == ["latest", *(f"a.example/a:{number}" for number in (4, 5, 6))]


def test_what_another_has_written_wrong_is_replaced(folder: StoreFolder) -> None:
    """Or the name would be said to be entered, and lead to nothing that can be read."""
    right = described("one")
    for wrong in ({"size": 4}, {"mediaType": OCI_INDEX}):
        for name in ("a.example/a:1", ""):
            entry = {"mediaType": OCI_MANIFEST, "digest": right.digest, "size": 3, **wrong}
            entry |= {"annotations": {REF_NAME: name}} if name else {}
            folder.index.write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
            Names(folder).enter([(name, right)])
            (entered,) = entries(folder)
            assert (entered["size"], entered["mediaType"]) == (3, OCI_MANIFEST)
    wrong_named = {"mediaType": OCI_MANIFEST, "digest": right.digest, "size": 4}
    wrong_named |= {"annotations": {REF_NAME: "a.example/a:1"}}
    folder.index.write_text(json.dumps({"schemaVersion": 2, "manifests": [wrong_named]}))
    names = Names(folder)
    names.add("a.example/a:1", right)
    names.flush()
    assert Names(folder).find("a.example/a:1") == replace(
        right, platform=None, annotations={REF_NAME: "a.example/a:1"}
    )


def test_a_size_that_nobody_told_is_that_of_the_file(folder: StoreFolder) -> None:
    """An entry without one cannot be read, nor the index that it is in."""
    unsized = replace(described("one"), size=None)
    folder.blob(unsized.digest).parent.mkdir()
    folder.blob(unsized.digest).write_bytes(b"one")
    names = Names(folder)
    names.enter([("1", unsized)])
    names.add("a.example/a:1", unsized)
    names.flush()
    found = parse_layout_index(folder.index.read_bytes())
    assert [each.size for each in found.manifests] == [3, 3]


def test_a_platform_of_any_length_is_left_out(folder: StoreFolder) -> None:
    platform = Platform(os="linux", architecture="arm64", os_version="x" * MAX_LAYOUT_ENTRY_BYTES)
    long = replace(described("one"), platform=platform)
    Names(folder).enter([("1", long), ("2", described("two"))])
    found = parse_layout_index(folder.index.read_bytes()).tags
    assert [found[name].platform for name in "12"] == [None, described("two").platform]


def test_an_index_that_could_not_be_read_again_is_not_written(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.index.read_bytes()
    monkeypatch.setattr(names_module, "MAX_LAYOUT_INDEX_BYTES", len(before) + 100)
    with pytest.raises(TooLargeError, match="too large"):
        Names(folder).enter([("1", described("one"))])
    assert folder.index.read_bytes() == before


def add_some(path: str, worker: int) -> None:
    names = Names(StoreFolder(path))
    for number in range(10):
        names.add(f"a.example/{worker}:{number}", described(f"{worker} {number}"))
        names.flush()


def test_several_processes_lose_none_of_each_others_names(folder: StoreFolder) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(add_some, str(folder.path)), range(4)))
    assert len(entries(folder)) == 40


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"manifests":[{"annotations":1}]}',
        b'{"manifests":[{"annotations":{"\xff":"a"}}]}',
        b'{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"\xff"}}]}',
        b'{"manifests":' + b"[" * 100_000,
    ],
)
def test_a_damaged_index_is_told_and_not_overwritten(folder: StoreFolder, content: bytes) -> None:
    names = Names(folder)
    names.add("a.example/a:1", described("one"))
    folder.index.write_bytes(content)
    with pytest.raises(RegistryError):
        names.flush()
    with pytest.raises(RegistryError):
        names.find("a.example/a:2")
    assert folder.index.read_bytes() == content


def test_a_field_of_anybodys_that_is_no_text_is_not_lost(folder: StoreFolder) -> None:
    content = b'{"\xff":1,"manifests":[]}'
    names = Names(folder)
    names.add("a.example/a:1", described("one"))
    folder.index.write_bytes(content)
    with pytest.raises(RegistryError):
        names.flush()
    assert folder.index.read_bytes() == content


def test_an_index_beyond_the_limit_is_not_read(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "MAX_LAYOUT_INDEX_BYTES", 10)
    with pytest.raises(TooLargeError):
        Names(folder).find("a.example/a:1")


def fill(folder: StoreFolder, count: int) -> None:
    """Writes an index that has many entries, with annotations of others."""
    written = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": digest_of(f"{number}".encode()),
            "size": number,
            "annotations": {REF_NAME: f"a.example/a:{number}", "one": "x" * 50, "two": "x" * 50},
        }
        for number in range(count)
    ]
    folder.index.write_text(json.dumps({"schemaVersion": 2, "manifests": written}))


def test_of_what_others_wrote_little_is_kept(folder: StoreFolder) -> None:
    """An index of 65,000 entries with their annotations took 50 MiB, beside all else."""
    count = 5_000
    fill(folder, count)
    names = Names(folder)
    tracemalloc.start()
    try:
        assert names.find("a.example/a:7") is not None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.2 * count * (LAYOUT_ENTRY_MEMORY + getsizeof("a.example/a:7000"))


def test_an_index_is_let_go_of_while_it_is_written_and_read_again(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both at a time took 26 MiB more, of 65,000 entries."""
    fill(folder, 5_000)
    # Room for as much is made before it is read, which takes no memory but counts here.
    most = folder.index.stat().st_size + 1_000
    monkeypatch.setattr(names_module, "MAX_LAYOUT_INDEX_BYTES", most)
    names = Names(folder)
    tracemalloc.start()
    try:
        assert names.find("a.example/a:7") is not None
        _, reading = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        names.enter([("a.example/a:new", described("new"))])
        assert names.find("a.example/a:new") is not None
        _, writing = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert writing < 1.4 * reading


def test_an_index_is_written_in_pieces_beside_the_one_that_it_was(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two texts of 22 MiB were there at a time."""
    entries = [
        {"mediaType": "a/b", "digest": digest_of(b"%d" % each), "size": 1, "platform": "x" * 2_000}
        for each in range(3_000)
    ]
    folder.index.write_text(json.dumps({"manifests": entries, "schemaVersion": 2}))
    size = folder.index.stat().st_size
    # Room for as much is made before it is read, which takes no memory but counts here.
    monkeypatch.setattr(names_module, "MAX_LAYOUT_INDEX_BYTES", size + 1_000)
    names = Names(folder)
    tracemalloc.start()
    try:
        names.enter([("new", described("new"))])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    written = json.loads(folder.index.read_bytes())
    assert written.pop("manifests")[:-1] == entries
    assert written == {"schemaVersion": 2}
    assert most < 1.7 * size


def test_what_an_index_takes_has_its_text_with_it(folder: StoreFolder) -> None:
    """It is read, and written anew, while as much as may be is found."""
    fill(folder, 1_000)
    names = Names(folder)
    assert names.find("a.example/a:7") is not None
    assert names.memory > folder.index.stat().st_size + 1_000 * LAYOUT_ENTRY_MEMORY


def test_a_store_that_is_not_there_has_no_names(tmp_path: Path) -> None:
    names = Names(StoreFolder(str(tmp_path / "new")))
    assert names.find("a.example/a:1") is None
    names.flush()


def test_the_tags_of_one_repository_are_those_of_its_names(folder: StoreFolder) -> None:
    names = Names(folder)
    for name in ("a.example/a:2", "a.example/a:1", "a.example/ab:3", "b.example/a:4"):
        names.add(name, described(name))
    assert names.tags("a.example/a") == ["1", "2"]
    names.flush()
    assert Names(folder).tags("a.example/a") == ["1", "2"]


# --- entries of a layout that everything goes into ---------------------------------------------


def test_an_entry_is_on_the_disk_at_once_with_all_that_is_known(folder: StoreFolder) -> None:
    found = described("one")
    Names(folder).enter([("v1", found), ("v2", found)])
    platform = {"os": "linux", "architecture": "arm64"}
    want = {"mediaType": OCI_MANIFEST, "digest": found.digest, "size": 3, "platform": platform}
    assert entries(folder) == [
        {**want, "annotations": {REF_NAME: "v1"}},
        {**want, "annotations": {REF_NAME: "v2"}},
    ]


def test_what_is_entered_already_is_not_written_again(folder: StoreFolder) -> None:
    found = [("v1", described("one")), ("", described("two")), ("", described("one"))]
    Names(folder).enter(found)
    before = folder.index.stat()
    Names(folder).enter(found)
    assert folder.index.stat() == before


def test_a_tag_that_moved_is_replaced_and_entries_of_others_stay(folder: StoreFolder) -> None:
    theirs = {
        "mediaType": OCI_MANIFEST,
        "digest": described("theirs").digest,
        "size": 6,
        "x": [1.50],
    }
    tagged = {**theirs, "annotations": {REF_NAME: "v1", "by": "skopeo"}}
    folder.index.write_text(
        json.dumps({"schemaVersion": 2, "manifests": [theirs, tagged], "more": 1})
    )
    Names(folder).enter([("v1", described("new"))])
    assert entries(folder)[0] == theirs
    assert [each["digest"] for each in entries(folder)[1:]] == [described("new").digest]
    assert json.loads(folder.index.read_bytes())["more"] == 1


def test_without_a_name_a_digest_is_entered_once(folder: StoreFolder) -> None:
    names = Names(folder)
    names.enter([("", described("one"))])
    names.enter([("", described("one")), ("", described("two"))])
    assert [each["digest"] for each in entries(folder)] == [
        described("one").digest,
        described("two").digest,
    ]
    assert all("annotations" not in each for each in entries(folder))


@pytest.mark.parametrize("first", ["", "v1"])
def test_what_is_entered_without_a_name_stays_wherever_a_name_moves(
    folder: StoreFolder, first: str
) -> None:
    """An entry with a name that stood for it took it along, in a later batch or run."""
    both = [(first, described("one")), ("v1" if first == "" else "", described("one"))]
    for each in both:
        Names(folder).enter([each])
    Names(folder).enter([("v1", described("two"))])
    named = {each["digest"]: each.get("annotations", {}) for each in entries(folder)}
    assert named == {described("one").digest: {}, described("two").digest: {REF_NAME: "v1"}}
    assert len(entries(folder)) == 2


def test_an_entry_of_others_without_a_name_stays_beside_a_name_for_the_same(
    folder: StoreFolder,
) -> None:
    """Its platform, and whatever else it said, was lost."""
    one = described("one")
    theirs = {"mediaType": one.media_type, "digest": one.digest, "size": 3, "platform": "x", "y": 1}
    folder.index.write_text(json.dumps({"manifests": [theirs]}))
    Names(folder).enter([("v1", replace(one, platform=None)), ("", one)])
    assert entries(folder)[0] == theirs
    assert [each["annotations"] for each in entries(folder)[1:]] == [{REF_NAME: "v1"}]


def test_of_two_that_are_entered_under_one_name_the_last_has_it(folder: StoreFolder) -> None:
    names = Names(folder)
    names.enter([("v1", described("two"))])
    names.enter([("v1", described("one")), ("v1", described("two"))])
    assert [each["digest"] for each in entries(folder)] == [described("two").digest]


def test_what_is_entered_without_a_name_stays_when_its_name_moves_with_that(
    folder: StoreFolder,
) -> None:
    names = Names(folder)
    names.enter([("v1", described("one"))])
    names.enter([("", described("one")), ("v1", described("two"))])
    named = {each["digest"]: each.get("annotations", {}) for each in entries(folder)}
    assert named == {described("one").digest: {}, described("two").digest: {REF_NAME: "v1"}}


def test_a_layout_of_another_tool_needs_no_preparation(tmp_path: Path) -> None:
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    made = StoreFolder(str(tmp_path), "layout")
    Names(made).enter([("v1", described("one"))])
    assert len(entries(made)) == 1


def test_no_entry_is_forgotten_for_another(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "MAX_STORE_NAMES", 2)
    monkeypatch.setattr(names_module, "MAX_LAYOUT_ENTRIES", 3)
    names = Names(folder)
    for number in range(3):
        names.enter([(f"a.example/a:{number}", described(str(number)))])
    assert len(entries(folder)) == 3
    with pytest.raises(TooLargeError, match="more than 3 entries: name another folder"):
        names.enter([("", described("one more"))])
    assert len(entries(folder)) == 3


def test_what_entries_are_called() -> None:
    both = Reference("a.example/a", f"v1@{described('one').digest}")
    alone = Reference("a.example/a", f"@{described('one').digest}")
    assert (bare_tag(both), bare_tag(alone)) == ("v1", "")
    assert (tag_with_locator(both), tag_with_locator(alone)) == ("a.example/a:v1", "")
    assert whole_name(Reference("a.example/a", "v1")) == "a.example/a:v1"


def test_an_index_that_is_a_fifo_is_waited_for_by_nobody(tmp_path: Path) -> None:
    folder = StoreFolder(str(tmp_path))
    os.mkfifo(folder.index)
    with pytest.raises(OSError, match="no regular file"):
        Names(folder).find("a:1")


def test_a_lock_that_is_never_let_go_of_is_waited_for_in_full_once(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder may have been stopped: each name of a run would wait as long."""
    monkeypatch.setattr(names_module, "STORE_LOCK_SECONDS", 1.0)
    monkeypatch.setattr(names_module, "STORE_LOCK_AGAIN_SECONDS", 0.0)
    names = Names(folder)
    names.add("a.example/a:1", described("one"))

    def seconds_in_vain() -> float:
        began = time.monotonic()
        with locked(folder.index_lock, 1), pytest.raises(TimeoutError):
            names.flush()
        return time.monotonic() - began

    assert seconds_in_vain() >= 1.0
    assert seconds_in_vain() < 1.0
    names.flush()
    assert [entry["annotations"][REF_NAME] for entry in entries(folder)] == ["a.example/a:1"]
    names.add("a.example/a:2", described("two"))
    assert seconds_in_vain() >= 1.0
