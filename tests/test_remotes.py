"""What the contracts cost, and what open_remote opens; docs/decisions/0004 says why."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.remotes import open_remote
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.registry import serve_layout

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"an object that is opened by its reference"


def test_the_contracts_alone_load_neither_a_remotes_room_nor_its_client() -> None:
    code = (
        "import sys, multi_fetch.remotes;"
        "print(sorted({'multi_fetch.registry', 'httpx', 'trio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_a_reference_opens_its_registry_and_gives_the_content(tmp_path: Path) -> None:
    """Resolve, fetch and open meet in one remote; nothing is asked before an object is wanted."""
    builder = LayoutBuilder(tmp_path)
    builder.add_blob(CONTENT)
    async with serve_layout(builder.finish()) as registry:
        ref = Reference(f"{registry.address}/demo/app", f"@{digest_of(CONTENT)}")
        async with open_remote(ref) as remote:
            assert not registry.requests
            async with remote.open(ref) as opened:
                assert b"".join([bytes(chunk) async for chunk in opened.chunks]) == CONTENT
            resolved = await remote.resolve(ref)
            assert resolved.name == str(ref)
            assert resolved.descriptor.size == len(CONTENT)
            async with resolved.fetcher.fetch(resolved.descriptor, offset=3) as chunks:
                assert b"".join([bytes(chunk) async for chunk in chunks]) == CONTENT[3:]
