"""What a manifest says of whom it refers to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import RegistryError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST
from multi_fetch.oci.referrer import parse_referrer

SUBJECT = digest_of(b"subject")


def manifest(media_type: str = OCI_MANIFEST) -> Descriptor:
    # what an index says of it beside is not repeated
    return Descriptor(
        media_type=media_type, digest=digest_of(b""), size=3, annotations={"old": "1"}
    )


def test_a_manifest_refers_to_its_subject_alone() -> None:
    referrer = parse_referrer(json.dumps({"subject": {"digest": SUBJECT}}).encode())
    assert referrer.refers_to(SUBJECT)
    assert not referrer.refers_to(digest_of(b"other"))
    assert not parse_referrer(b'{"subject": null}').refers_to("")


def test_its_artifact_type_is_its_own_or_its_configs() -> None:
    config = {"config": {"mediaType": "a/config"}}
    both = parse_referrer(json.dumps({**config, "artifactType": "a/own"}).encode())
    one = parse_referrer(json.dumps({**config, "annotations": {"k": "v"}}).encode())
    assert both.describe(manifest()).artifact_type == "a/own"
    assert one.describe(manifest()).artifact_type == "a/config"
    assert one.describe(manifest()).annotations == {"k": "v"}
    assert one.describe(manifest(OCI_INDEX)).artifact_type == ""


@given(st.binary())
def test_any_bytes_are_a_referrer_or_a_registrys_error(content: bytes) -> None:
    try:
        referrer = parse_referrer(content)
    except RegistryError:
        return
    assert not referrer.refers_to(SUBJECT)


@pytest.mark.parametrize("content", [b"[]", b'{"subject": 1}', b'{"artifactType": {}}', b"\xff"])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(RegistryError):
        parse_referrer(content)
