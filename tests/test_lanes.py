"""Who has a direct lane is told from who does not."""

from __future__ import annotations

from multi_fetch.lanes import Direct
from multi_fetch.layout.remote import LayoutRemote
from multi_fetch.registry.resolver import RegistryRemote


def test_a_registry_has_a_direct_lane_and_a_layout_has_none() -> None:
    assert issubclass(RegistryRemote, Direct)
    assert not issubclass(LayoutRemote, Direct)
