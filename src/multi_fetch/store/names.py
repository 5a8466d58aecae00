"""Which names stand for what, in a store's index.json. All here blocks; threads may share it.

A name is a whole reference, ``docker.io/library/redis:7``, in the annotation
``org.opencontainers.image.ref.name``: so the tags of many repositories have room in one layout,
and ``oci:<folder>`` finds them by their bare tag where that is not ambiguous. A layout that one
repository is gathered in has bare tags, as skopeo, crane and oras write them. What other tools
wrote stays as it is.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec.structs import replace

from multi_fetch.durations import STORE_LOCK_AGAIN_SECONDS, STORE_LOCK_SECONDS
from multi_fetch.errors import RegistryError, TooLargeError
from multi_fetch.limits import (
    MAX_LAYOUT_ENTRIES,
    MAX_LAYOUT_ENTRY_BYTES,
    MAX_LAYOUT_INDEX_BYTES,
    MAX_STORE_NAMES,
)
from multi_fetch.oci.descriptor import Descriptor, encode_hook
from multi_fetch.oci.layout import (
    BLOBS_FOLDER,
    REF_NAME,
    bare_layout_index,
    check_memory,
    index_pieces,
)
from multi_fetch.oci.reference import TAG
from multi_fetch.store.beneath import read_at_most
from multi_fetch.store.folder import EMPTY_INDEX
from multi_fetch.store.lock import locked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from multi_fetch.oci.digest import Digest
    from multi_fetch.oci.reference import Reference
    from multi_fetch.store.folder import StoreFolder

T = TypeVar("T")

# What msgspec raises of bytes that are not the JSON that was hoped for.
MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_document = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entries = msgspec.json.Decoder(list[msgspec.Raw])
_encoder: Final = msgspec.json.Encoder(enc_hook=encode_hook)


class _Named(msgspec.Struct):
    digest: str = ""
    annotations: dict[str, str] = {}

    @property
    def name(self) -> str:
        return self.annotations.get(REF_NAME, "")


class _Digested(msgspec.Struct):
    digest: str = ""


_named = msgspec.json.Decoder(_Named)
_digested = msgspec.json.Decoder(_Digested)
NO_INDEX: Final = bare_layout_index(EMPTY_INDEX)


def whole_name(ref: Reference) -> str:
    """What a store of many repositories calls it: ``docker.io/library/redis:7``."""
    return str(ref)


def tag_with_locator(ref: Reference) -> str:
    """The same, where a digest decides what the tag stands for; empty without a tag."""
    return f"{ref.locator}:{ref.tag}" if ref.tag else ""


def bare_tag(ref: Reference) -> str:
    """What a layout of one repository calls it: ``7``; empty without a tag."""
    return ref.tag


class Names:
    """The names of one store.

    Args:
        folder: the store's.

    Attributes:
        memory: what its index takes, in bytes, with its text while that is read and written.
    """

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder
        self._lock = Lock()
        self._patience_seconds = STORE_LOCK_SECONDS
        self._new: dict[str, Descriptor] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._index = NO_INDEX
        self.memory = 0

    def find(self, name: str) -> Descriptor | None:
        """What a name stands for, as far as the store knows.

        Raises:
            RegistryError: index.json is damaged.
            TooLargeError: it is beyond the limits of a layout.
            OSError: the system cannot read it.
        """
        with self._lock:
            if name in self._new:
                return self._new[name]
            self._read()
            found = self._index.tags.get(name)
            return found and replace(found, annotations={REF_NAME: name})

    def tags(self, locator: str) -> list[str]:
        """The tags of a repository that have a name here.

        Raises:
            MultiFetchError, OSError: as for ``find``.
        """
        start = f"{locator}:"
        with self._lock:
            self._read()
            names = sorted({*self._index.tags, *self._new})
        return [name.removeprefix(start) for name in names if name.startswith(start)]

    def add(self, name: str, descriptor: Descriptor) -> bool:
        """Notes a name, to be written by ``flush``.

        Args:
            name: a whole reference.
            descriptor: of content that is in the store.

        Returns:
            Whether there is something to write.

        Raises:
            MultiFetchError, OSError: as for ``find``.
        """
        known = self.find(name)
        with self._lock:
            # What an index says of it, its platform above all, is not the name's.
            bare = self._sized(descriptor).bare()
            if known is None or _key(known) != _key(bare):
                self._new[name] = replace(bare, annotations={REF_NAME: name})
            return bool(self._new)

    def flush(self) -> None:
        """Writes what was noted.

        Raises:
            TimeoutError: another process writes all the time.
            MultiFetchError, OSError: as for ``find``, or the system cannot write it.
        """
        with self._lock:
            if not self._new:
                return
            self._write(self._new, most_names=MAX_STORE_NAMES)
            self._new.clear()

    def enter(self, entries: Sequence[tuple[str, Descriptor]]) -> None:
        """Writes entries at once, unless they are there; on the disk when this returns.

        Args:
            entries: names, and descriptors of content that is in the store. What has an empty name
                is entered without one, also beside a name for the same, which may move.

        Raises:
            TimeoutError: another process writes all the time.
            TooLargeError: index.json would be beyond the limits of a layout.
            MultiFetchError, OSError: as for ``flush``. What was there stays as it was.
        """
        with self._lock:
            self._folder.prepare()
            new = self._not_entered(entries)
            if not new:
                return
            self._write(new)
            self._folder.sync(self._folder.path)

    def _not_entered(self, entries: Sequence[tuple[str, Descriptor]]) -> dict[str, Descriptor]:
        """What of these is to be written: by name, or by digest where it has none.

        Of two with one name the last counts.
        """
        self._read()
        tags, new = self._index.tags, dict[str, Descriptor]()
        there = self._nameless({each.digest for name, each in entries if not name})
        for name, unsized in entries:
            descriptor, known = self._sized(unsized), new.get(name, tags.get(name))
            if name and (known is None or _key(known) != _key(descriptor)):
                new[name] = _entry(descriptor, {REF_NAME: name})
            elif not name and _key(descriptor) not in there:
                new[descriptor.digest] = _entry(descriptor, {})
        return new

    def _nameless(self, digests: AbstractSet[Digest]) -> set[tuple[str, Digest, int | None]]:
        """What entries without a name stand for, of these digests."""
        named = {id(each) for each in self._index.tags.values() if each.digest in digests}
        found = (each for each in self._index.manifests if each.digest in digests)
        return {_key(each) for each in found if id(each) not in named}

    def forget(self, digests: AbstractSet[Digest]) -> None:
        """Strikes all entries of these digests; the lock of index.json must be held.

        Raises:
            MultiFetchError, OSError: as for ``flush``.
        """
        if not digests:
            return
        with self._lock:
            document, entries = self._decoded()
            named = self._each(_digested, entries)
            kept = [entry for each, entry in named if each.digest not in digests]
            self._folder.replace(self._folder.index, index_pieces(document, kept))

    def _sized(self, descriptor: Descriptor) -> Descriptor:
        """With the size of its content, which a registry may not have told."""
        if descriptor.size is not None:
            return descriptor
        return replace(descriptor, size=self._folder.blob(descriptor.digest).stat().st_size)

    def _read(self) -> None:
        try:
            status = self._folder.index.stat()
        except FileNotFoundError:
            return
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._let_go()
            content = self._content()
            self._index = bare_layout_index(content)
            self._stamp = stamp
            self.memory = self._index.memory() + len(content)

    def _let_go(self) -> None:
        """Keeps no index while one is read or written anew: each may take 30 MiB."""
        self._index, self._stamp = NO_INDEX, None

    def _content(self) -> bytes:
        content = read_at_most(self._folder.index, MAX_LAYOUT_INDEX_BYTES)
        self._check_length(len(content))
        return content

    def _check_length(self, length: int) -> None:
        if length > MAX_LAYOUT_INDEX_BYTES:
            raise TooLargeError(f"index.json of {self._folder.name} is too large")

    def _write(self, new: Mapping[str, Descriptor], *, most_names: int | None = None) -> None:
        """Writes index.json as it is now, with what is new at its end.

        Args:
            new: by name, or by digest where it has none.
            most_names: beyond which the oldest whole references are forgotten; None for never.
        """
        self._sync_blobs()
        self._let_go()
        with self._index_locked():
            document, kept = self._others(new)
            if most_names is not None:
                _forget_oldest(kept, len(new), most_names)
            if len(kept) + len(new) > MAX_LAYOUT_ENTRIES:
                raise TooLargeError(
                    f"index.json of {self._folder.name} would have more than {MAX_LAYOUT_ENTRIES}"
                    " entries: name another folder"
                )
            entries: list[msgspec.Raw | Descriptor] = [*(raw for _, raw in kept), *new.values()]
            # Or nobody could read it again.
            self._check_length(sum(map(len, index_pieces(document, entries))))
            check_memory(index_pieces(document, entries))
            self._folder.replace(self._folder.index, index_pieces(document, entries))

    @contextmanager
    def _index_locked(self) -> Iterator[None]:
        seconds, self._patience_seconds = self._patience_seconds, STORE_LOCK_AGAIN_SECONDS
        with locked(self._folder.index_lock, seconds):
            self._patience_seconds = STORE_LOCK_SECONDS
            yield

    def _others(
        self, new: Mapping[str, Descriptor]
    ) -> tuple[dict[str, msgspec.Raw], list[tuple[str, msgspec.Raw]]]:
        """index.json as it is now, and of its entries those that stay, with their names."""
        document, entries = self._decoded()
        return document, [
            (each.name, entry)
            for each, entry in self._each(_named, entries)
            if each.name not in new and (each.annotations or each.digest not in new)
        ]

    def _decoded(self) -> tuple[dict[str, msgspec.Raw], list[msgspec.Raw]]:
        """index.json as it is now: its fields, and its entries as they are written."""
        try:
            content = self._content()
            check_memory([content])
            document = _document.decode(content)
            entries = _entries.decode(document.get("manifests", msgspec.Raw(b"[]")))
        except MALFORMED as error:
            raise RegistryError(f"index.json of {self._folder.name}: {error}") from error
        return document, entries

    def _each(
        self, decoder: msgspec.json.Decoder[T], entries: Iterable[msgspec.Raw]
    ) -> Iterator[tuple[T, msgspec.Raw]]:
        """What is in each, one after the other: all of it at a time would take much memory."""
        try:
            for each in entries:
                yield decoder.decode(each), each
        except MALFORMED as error:
            raise RegistryError(f"index.json of {self._folder.name}: {error}") from error

    def _sync_blobs(self) -> None:
        """So that no name is on the disk before what it stands for."""
        for folder in (self._folder.path / BLOBS_FOLDER).iterdir():
            self._folder.sync(folder)


def _key(descriptor: Descriptor) -> tuple[str, Digest, int | None]:
    """What an entry must have to stand for the same: others may have written a wrong one."""
    return descriptor.media_type, descriptor.digest, descriptor.size


def _entry(descriptor: Descriptor, annotations: dict[str, str]) -> Descriptor:
    """As it is written: a platform of any length would fill index.json."""
    entry = replace(descriptor, annotations=annotations)
    if len(_encoder.encode(entry)) <= MAX_LAYOUT_ENTRY_BYTES:
        return entry
    return replace(descriptor.bare(), annotations=annotations)


def _forget_oldest(kept: list[tuple[str, msgspec.Raw]], count: int, most: int) -> None:
    """Makes room; the entries of other tools, without a name or with a bare tag, stay."""
    ours = [each for each in kept if each[0] and not TAG.fullmatch(each[0])]
    for each in ours[: max(0, len(ours) + count - most)]:
        kept.remove(each)
