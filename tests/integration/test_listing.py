"""Tags and referrers from a real docker-registry (distribution 2.8), which has no referrers API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.pages import fallback_tag
from multi_fetch.remotes import open_remote
from tests.integration.push import OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from tests.integration.docker_registry import DockerRegistry
    from tests.integration.push import Filled

pytestmark = pytest.mark.integration


async def tags_of(ref: Reference) -> list[str]:
    async with open_remote(ref) as remote:
        return [name async for page in remote.tags(ref) for name in page]


async def referrers_of(ref: Reference, artifact_type: str = "") -> list[str]:
    async with open_remote(ref) as remote:
        pages = remote.referrers(ref, artifact_type)
        return [each.digest async for page in pages for each in page]


async def test_all_tags_are_listed(registry: DockerRegistry, filled: Filled) -> None:
    ref = Reference(f"{registry.address}/{filled.repository}")
    assert sorted(await tags_of(ref)) == sorted(filled.tags)


async def test_the_fallback_tag_says_what_refers_to_a_digest(
    registry: DockerRegistry, filled: Filled
) -> None:
    repository = "library/referred"
    subject = digest_of(b"subject")
    named = [
        {"mediaType": OCI_MANIFEST, "digest": digest, "size": 3, "artifactType": kind}
        for digest, kind in _push_artifacts(registry, repository)
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": named}
    _push(registry, repository, fallback_tag(subject), json.dumps(index).encode(), OCI_INDEX)
    ref = Reference(f"{registry.address}/{repository}", f"@{subject}")
    assert await referrers_of(ref) == [each["digest"] for each in named]
    assert await referrers_of(ref, "a/sig") == [named[1]["digest"]]
    nothing = Reference(ref.locator, f"@{digest_of(b'nothing')}")
    assert await referrers_of(nothing) == []


def _push_artifacts(registry: DockerRegistry, repository: str) -> list[tuple[str, str]]:
    pushed = []
    base = f"{registry.url}/v2/{repository}"
    for kind in ("a/sbom", "a/sig"):
        blob = b"{}"
        with httpx.Client(trust_env=False) as client:
            location = client.post(f"{base}/blobs/uploads/").headers["location"]
            url = httpx.URL(location).copy_merge_params({"digest": digest_of(blob)})
            client.put(url, content=blob).raise_for_status()
        empty = {"mediaType": kind, "digest": digest_of(blob), "size": 2}
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": empty,
            "layers": [empty],
        }
        content = json.dumps(manifest).encode()
        _push(registry, repository, str(digest_of(content)), content, OCI_MANIFEST)
        pushed.append((str(digest_of(content)), kind))
    return pushed


def _push(
    registry: DockerRegistry, repository: str, name: str, content: bytes, media_type: str
) -> None:
    url = f"{registry.url}/v2/{repository}/manifests/{name}"
    headers = {"Content-Type": media_type}
    with httpx.Client(trust_env=False) as client:
        client.put(url, content=content, headers=headers).raise_for_status()
