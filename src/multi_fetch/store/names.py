"""Which names stand for what, in a store's index.json. All here blocks; threads may share it.

A name is a whole reference, ``docker.io/library/redis:7``, in the annotation
``org.opencontainers.image.ref.name``: so the tags of many repositories have room in one layout,
and ``oci:<folder>`` finds them by their bare tag where that is not ambiguous. What other tools
wrote stays as it is.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.errors import RegistryError, TooLargeError
from multi_fetch.limits import MAX_LAYOUT_INDEX_BYTES, MAX_STORE_NAMES, STORE_LOCK_SECONDS
from multi_fetch.oci.descriptor import Descriptor, encode_hook
from multi_fetch.oci.layout import BLOBS_FOLDER, REF_NAME, parse_layout_index
from multi_fetch.oci.reference import TAG
from multi_fetch.store.folder import EMPTY_INDEX
from multi_fetch.store.lock import locked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.oci.layout import LayoutIndex
    from multi_fetch.store.folder import StoreFolder

_document = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entries = msgspec.json.Decoder(list[msgspec.Raw])
_encoder: Final = msgspec.json.Encoder(enc_hook=encode_hook)


class _Named(msgspec.Struct):
    annotations: dict[str, str] = {}


_named = msgspec.json.Decoder(_Named)


class Names:
    """The names of one store.

    Args:
        folder: the store's.
    """

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder
        self._lock = Lock()
        self._new: dict[str, Descriptor] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._index: LayoutIndex = parse_layout_index(EMPTY_INDEX)

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
            return self._index.tags.get(name)

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
            if known is None or known.digest != descriptor.digest:
                # What an index says of it, its platform above all, is not the name's.
                self._new[name] = Descriptor(
                    media_type=descriptor.media_type,
                    digest=descriptor.digest,
                    size=descriptor.size,
                    annotations={REF_NAME: name},
                )
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
            with locked(self._folder.index_lock, STORE_LOCK_SECONDS):
                self._folder.replace(self._folder.index, self._merged())
            self._new.clear()

    def _read(self) -> None:
        try:
            status = self._folder.index.stat()
        except FileNotFoundError:
            return
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._index = parse_layout_index(self._content())
            self._stamp = stamp

    def _content(self) -> bytes:
        with self._folder.index.open("rb") as file:
            content = file.read(MAX_LAYOUT_INDEX_BYTES + 1)
        if len(content) > MAX_LAYOUT_INDEX_BYTES:
            raise TooLargeError(f"index.json of {self._folder.name} is too large")
        return content

    def _merged(self) -> bytes:
        """index.json as it is now, with what is new at its end."""
        self._sync_blobs()
        try:
            document = _document.decode(self._content())
            entries = _entries.decode(document.get("manifests", msgspec.Raw(b"[]")))
            names = [_named.decode(each).annotations.get(REF_NAME, "") for each in entries]
        except msgspec.DecodeError as error:
            raise RegistryError(f"index.json of {self._folder.name}: {error}") from error
        kept = dict(enumerate(zip(names, entries, strict=True)))
        for number, (name, _) in list(kept.items()):
            if name in self._new:
                del kept[number]
        self._forget_oldest(kept)
        merged: Mapping[str, object] = {
            **document,
            "manifests": [*(entry for _, entry in kept.values()), *self._new.values()],
        }
        return _encoder.encode(merged)

    def _forget_oldest(self, kept: dict[int, tuple[str, msgspec.Raw]]) -> None:
        """Makes room; the entries of other tools, without a name or with a bare tag, stay."""
        ours = [number for number, (name, _) in kept.items() if name and not TAG.fullmatch(name)]
        surplus = len(ours) + len(self._new) - MAX_STORE_NAMES
        for number in ours[: max(0, surplus)]:
            del kept[number]

    def _sync_blobs(self) -> None:
        """So that no name is on the disk before what it stands for."""
        for folder in (self._folder.path / BLOBS_FOLDER).iterdir():
            fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
