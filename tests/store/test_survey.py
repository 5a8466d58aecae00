"""What there is, what index.json names, and what manifests do."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from multi_fetch.errors import RegistryError, TooLargeError
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.layout import REF_NAME
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.store.folder import RECORDS_FOLDER, StoreFolder
from multi_fetch.store.records import Records
from multi_fetch.store.survey import children_in, is_sound, kept_in, roots_in
from multi_fetch.testing.builder import LayoutBuilder

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor


def test_all_content_is_listed_and_what_is_somebody_elses_is_not(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    blobs = [builder.add_blob(bytes([number])) for number in range(5)]
    blobs.append(builder.add_blob(b"x", algorithm="sha512"))
    builder.finish()
    (tmp_path / "blobs" / "sha256" / "notes.txt").write_text("")
    found = {each.digest: each.size for each in kept_in(StoreFolder(str(tmp_path)))}
    assert found == {each.digest: 1 for each in blobs}


def test_folders_that_could_be_of_algorithms_are_never_held_all_at_once(tmp_path: Path) -> None:
    """There may be any number of them, and their names are long."""
    for number in range(1_000):
        for above in ("blobs", RECORDS_FOLDER):
            (tmp_path / above / f"{number:0>240}").mkdir(parents=True)
    folder = StoreFolder(str(tmp_path))
    tracemalloc.start()
    try:
        assert list(kept_in(folder)) == []
        Records(folder).tidy()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


def test_each_entry_is_told_with_its_name_and_nothing_that_takes_room(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    image = builder.add_image(builder.add_empty(), [])
    builder.tag("a.example/a:1", replace(image, annotations={"why": "x" * 1_000}))
    builder.add_manifest(b'{"schemaVersion":2}', OCI_MANIFEST)
    builder.finish()
    named, nameless = roots_in(StoreFolder(str(tmp_path)))
    assert named == replace(image.bare(), annotations={REF_NAME: "a.example/a:1"})
    assert not nameless.annotations


def test_what_a_manifest_names_is_told_if_it_is_there_and_is_one(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    layer = builder.add_blob(b"layer")
    image = builder.add_image(builder.add_empty(), [layer])
    missing = builder.add_manifest(b'{"schemaVersion":2}', OCI_MANIFEST)
    damaged = builder.add_manifest(b"{", OCI_MANIFEST)
    builder.finish()
    folder = StoreFolder(str(tmp_path))
    folder.blob(missing.digest).unlink()

    def children(of: Descriptor) -> list[Descriptor]:
        return list(children_in(folder, of.digest))

    assert layer.digest in [each.digest for each in children(image)]
    assert children(missing) == []
    with pytest.raises(RegistryError):
        children(damaged)
    folder.index.write_text("{")
    with pytest.raises(RegistryError):
        list(roots_in(folder))


def test_content_is_sound_or_not_and_what_has_gone_is_no_fault(tmp_path: Path) -> None:
    folder = StoreFolder(str(tmp_path))
    folder.prepare()
    digest = digest_of(b"content")
    path = folder.blob(digest)
    path.parent.mkdir()
    path.write_bytes(b"content")
    assert is_sound(folder, digest)
    for damaged in (b"", b"contenT", b"content."):
        path.write_bytes(damaged)
        assert not is_sound(folder, digest)
    path.unlink()
    assert is_sound(folder, digest)
    path.mkdir()
    assert not is_sound(folder, digest)


def test_what_is_said_to_be_a_manifest_is_not_read_beyond_the_limit(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    named = builder.add_manifest(b'{"schemaVersion":2}', OCI_MANIFEST)
    builder.finish()
    folder = StoreFolder(str(tmp_path))
    os.truncate(folder.blob(named.digest), 1 << 40)  # sparse; nothing has so much memory
    with pytest.raises(TooLargeError):
        children_in(folder, named.digest)


def test_nobody_waits_for_who_writes_to_a_fifo(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    named = builder.add_manifest(b'{"schemaVersion":2}', OCI_MANIFEST)
    builder.finish()
    folder = StoreFolder(str(tmp_path))
    for path in (folder.index, folder.blob(named.digest)):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        roots_in(folder)
    with pytest.raises(RegistryError, match="no regular file"):
        children_in(folder, named.digest)


def test_content_was_used_when_its_file_or_its_record_says_so_whichever_is_later(
    tmp_path: Path,
) -> None:
    folder = StoreFolder(str(tmp_path))
    folder.prepare()
    digests = [digest_of(bytes([number])) for number in range(3)]
    (folder.path / "blobs" / "sha256").mkdir()
    (folder.path / RECORDS_FOLDER / "sha256").mkdir(parents=True)
    for number, digest in enumerate(digests):
        folder.blob(digest).touch()
        os.utime(folder.blob(digest), (1000, 1000))
        if number:
            record = folder.path / RECORDS_FOLDER / "sha256" / digest.encoded
            record.touch()
            os.utime(record, (500 * number + 1, 500 * number + 1))
    used = {each.digest: each.used for each in kept_in(folder)}
    assert [used[digest] for digest in digests] == [1000, 1000, 1001]
