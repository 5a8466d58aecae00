"""Who keeps content is told from who does not."""

from __future__ import annotations

from multi_fetch.keeping import Gathering, Keeping
from multi_fetch.store.remote import StoredRemote
from tests.worker.memory_remote import MemoryRemote


def test_a_remote_behind_a_store_keeps_and_another_does_not() -> None:
    assert issubclass(StoredRemote, Keeping)
    assert issubclass(StoredRemote, Gathering)
    assert not issubclass(MemoryRemote, Keeping)
