"""Nobody is asked: the other half of --offline, by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import NotFoundError, UnavailableError, UnsupportedError
from multi_fetch.layout.loan import Threads
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.oci.reference import parse_familiar
from multi_fetch.remotes import Report
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.names import Names, whole_name
from multi_fetch.store.nobody import Nobody

if TYPE_CHECKING:
    from pathlib import Path

REF = parse_familiar("a.example/a:1")


async def test_nobody_knows_names_and_has_nothing(tmp_path: Path) -> None:
    names = Names(StoreFolder(str(tmp_path)))
    nobody = Nobody("the store x", names, whole_name, Threads())
    with pytest.raises(NotFoundError, match=r"the store x does not have a\.example/a:1"):
        await nobody.resolve(REF)
    found = Descriptor(media_type=OCI_MANIFEST, digest=digest_of(b"x"), size=1)
    names.add(str(REF), found)
    assert (await nobody.resolve(REF)).descriptor.digest == found.digest
    with pytest.raises(NotFoundError, match="--offline"):
        async with nobody.open(REF):
            pass
    with pytest.raises(NotFoundError, match="--offline"):
        async with nobody.fetch(found):
            pass
    assert [page async for page in nobody.tags(REF)] == [["1"]]
    with pytest.raises(UnsupportedError, match="--offline"):
        await anext(nobody.referrers(REF))
    assert nobody.report() == Report()


async def test_names_that_cannot_be_read_are_no_answer(tmp_path: Path) -> None:
    (tmp_path / "index.json").mkdir()
    nobody = Nobody("the store x", Names(StoreFolder(str(tmp_path))), whole_name, Threads())
    with pytest.raises(UnavailableError, match="Is a directory"):
        await nobody.resolve(REF)
    with pytest.raises(UnavailableError, match="Is a directory"):
        await anext(nobody.tags(REF))
    with pytest.raises(UnavailableError, match="Is a directory"):
        async with nobody.open(REF):
            pass
