"""Frames in, lines out: when each line comes, and what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from multi_fetch.errors import InternalError
from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from multi_fetch.protocol.frames import Begin, Bye, Detail, End, Error, File, Hello
from multi_fetch.protocol.request import Request
from multi_fetch.worker.job import Job
from multi_fetch.worker.lines import LinesWire, Root, line_bytes

LOCATOR = "a.example/a"


class Session:
    """A wire, and the jobs whose frames it is given."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.entered: list[Root] = []
        self.wire = LinesWire(LOCATOR, self.jobs.get, self.entered.append)

    def ask(self, number: int, text: str, parent: int | None = None, *urls: str) -> None:
        described = Descriptor(
            media_type=OCTET_STREAM, digest=digest_of(text.encode()), size=1, urls=urls
        )
        self.jobs[number] = Job(
            id=number,
            request=Request(object=text, tag="" if ":" in text else text),
            parent=None if parent is None else self.jobs[parent],
            described=described,
        )

    def end(
        self,
        number: int,
        media_type: str = OCI_MANIFEST,
        children: int = 0,
        *,
        is_kept: bool = True,
    ) -> list[dict[str, Any]]:
        job = self.jobs[number]
        assert job.request is not None
        text = job.request.object
        digest = digest_of(text.encode())
        platform = Platform(os="linux", architecture="arm64") if number < 0 else None
        found = Descriptor(media_type=media_type, digest=digest, size=3, platform=platform)
        parent = None if job.parent is None else job.parent.id
        written = self.wire.frame(Begin(number, text, found, f"{LOCATOR}:{text}", parent))
        written += self.wire.frame(File(number, "/x", 3)) if is_kept else b""
        assert written == b""
        written = self.wire.frame(
            End(number, 3 if is_kept else 0, digest if is_kept else None, children)
        )
        return [json.loads(line) for line in written.splitlines()]

    def fail(self, number: int, code: str = "unavailable") -> list[dict[str, Any]]:
        detail: Detail = {"status": 503, "bytes_sent": 0, "object": "x", "parent": 1}
        written = self.wire.frame(Error(number, code, "no", retryable=True, detail=detail))
        return [json.loads(line) for line in written.splitlines()]


@pytest.fixture
def session() -> Session:
    return Session()


def test_what_is_no_answer_has_no_line(session: Session) -> None:
    assert session.wire.frame(Hello(1, LOCATOR, 1, 1, (), "x")) == b""
    assert session.wire.frame(Bye(0, 0, 0, 0, {})) == b""
    with pytest.raises(InternalError, match="no place"):
        session.wire.data(1, 0, b"content")


def test_a_blob_has_its_line_at_once(session: Session) -> None:
    session.ask(1, "sha256:blob")
    (line,) = session.end(1, OCTET_STREAM)
    digest = digest_of(b"sha256:blob")
    assert line == {
        "id": 1,
        "object": "sha256:blob",
        "name": f"{LOCATOR}:sha256:blob",
        "mediaType": OCTET_STREAM,
        "digest": digest,
        "size": 3,
        "path": f"blobs/sha256/{digest.encoded}",
    }
    assert not session.entered


def test_a_size_that_was_not_told_beforehand_is_that_of_what_came(session: Session) -> None:
    session.ask(1, "sha256:blob")
    digest = digest_of(b"sha256:blob")
    found = Descriptor(media_type=OCTET_STREAM, digest=digest, size=None)
    session.wire.frame(Begin(1, "sha256:blob", found, f"{LOCATOR}@{digest}", None))
    assert json.loads(session.wire.frame(End(1, 3, digest, 0)))["size"] == 3


def test_a_descriptor_alone_has_no_path_and_is_not_entered(session: Session) -> None:
    session.ask(1, "latest")
    (line,) = session.end(1, is_kept=False)
    assert "path" not in line
    assert line["mediaType"] == OCI_MANIFEST
    assert not session.entered


def test_a_manifest_has_its_line_once_it_is_entered(session: Session) -> None:
    session.ask(1, "latest")
    assert session.end(1) == []
    (root,) = session.entered
    assert (root.ref.locator, root.ref.tag) == (LOCATOR, "latest")
    assert root.descriptor.digest == digest_of(b"latest")
    assert json.loads(line_bytes(root.line))["id"] == 1


def test_a_tree_is_entered_when_all_of_it_is_there(session: Session) -> None:
    session.ask(1, "latest")
    assert session.end(1, OCI_INDEX, 2) == []
    for number in (-1, -2):
        session.ask(number, f"sha256:{number}", 1)
    (first,) = session.end(-1, OCI_MANIFEST, 1)
    assert (first["parent"], first["children"]) == (1, 1)
    assert first["platform"] == {"os": "linux", "architecture": "arm64"}
    assert [line["id"] for line in session.end(-2)] == [-2]
    assert not session.entered
    session.ask(-3, "sha256:-3", -1)
    assert [line["id"] for line in session.end(-3, OCTET_STREAM)] == [-3]
    assert [root.line.children for root in session.entered] == [2]


def test_a_tree_with_a_hole_is_not_entered_and_its_line_says_so(session: Session) -> None:
    session.ask(1, "latest")
    session.end(1, OCI_MANIFEST, 2)
    for number in (-1, -2):
        session.ask(number, f"sha256:{number}", 1)
    (lost,) = session.fail(-1)
    assert lost == {
        "id": -1,
        "object": "sha256:-1",
        "parent": 1,
        "error": {"code": "unavailable", "message": "no", "retryable": True, "status": 503},
    }
    child, root = session.end(-2, OCTET_STREAM)
    assert child["id"] == -2
    assert (root["id"], root["object"], root["error"]["code"]) == (1, "latest", "unavailable")
    assert root["error"]["message"].startswith("1 of 2 objects below it failed")
    assert not session.entered


def test_a_layer_that_can_be_had_elsewhere_is_no_hole(session: Session) -> None:
    session.ask(1, "latest")
    session.end(1, OCI_MANIFEST, 1)
    session.ask(-1, "sha256:-1", 1, "https://a.example/layer")
    assert [line["id"] for line in session.fail(-1, "not-found")] == [-1]
    assert [root.line.id for root in session.entered] == [1]


def test_other_trouble_with_such_a_layer_is_one(session: Session) -> None:
    session.ask(1, "latest")
    session.end(1, OCI_MANIFEST, 1)
    session.ask(-1, "sha256:-1", 1, "https://a.example/layer")
    assert [line["id"] for line in session.fail(-1, "digest-mismatch")] == [-1, 1]
    assert not session.entered


def test_a_request_that_fails_says_what_it_was_if_that_is_known(session: Session) -> None:
    session.ask(1, "nope")
    session.jobs[2] = Job(id=2, request=None)
    assert [line.get("object") for line in (*session.fail(1), *session.fail(2))] == ["nope", None]


def test_the_worker_itself_has_a_line_too(session: Session) -> None:
    (line,) = session.fail(0, "internal")
    assert (line["id"], line["error"]["code"]) == (0, "internal")
