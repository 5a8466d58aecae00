"""What a checkup does not do at a registry; what it does is in test_doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from multi_fetch.cli.checkup import Checkup, Finding
from multi_fetch.cli.checkup_registry import Asking, check_host
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.credentials import Credential, Keychain
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.proxies import NO_PROXIES
from multi_fetch.testing.faults import Fault, answer_status, require_basic
from multi_fetch.testing.layout import read_layout
from multi_fetch.testing.registry import serve_layout

LAYOUT = Path(__file__).parents[2] / "examples" / "layout"
LOGIN = Credential(username="alice", password="open-sesame")


def asking(address: str) -> Asking:
    return Asking(Reference(f"{address}/demo/app"), LOGIN, Keychain([]), NO_PROXIES)


async def test_a_mirror_is_not_told_the_registrys_login() -> None:
    found: list[Finding] = []
    fault = Fault(require_basic("alice", "open-sesame"))
    async with serve_layout(read_layout(LAYOUT), faults=[fault]) as registry:
        mirror = Host("http", registry.address, namespace="registry.example")
        checkup = Checkup(found.append, mirror.url)
        assert not await check_host(checkup, mirror, asking("registry.example"))
        sent = [dict(request.headers).get("authorization") for request in registry.requests]
    assert set(sent) == {None}
    assert found[-1].code == "unauthorized"


@pytest.mark.parametrize("realm", ["https://[::1", "https://me:s3cret/x@auth.example/"])
async def test_a_realm_that_is_no_url_is_a_finding_without_what_may_be_secret(realm: str) -> None:
    found: list[Finding] = []
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    fault = Fault(answer_status(401, headers=challenge))
    async with serve_layout(read_layout(LAYOUT), faults=[fault]) as registry:
        host = Host("http", registry.address)
        assert await check_host(Checkup(found.append), host, asking(registry.address))
    assert found[-1].code == "registry-error"
    assert "s3cret" not in repr(found)


async def test_no_more_is_asked_for_than_needed_and_each_only_once() -> None:
    async with serve_layout(read_layout(LAYOUT)) as registry:
        host = Host("http", registry.address)
        assert await check_host(Checkup(lambda _: None, host.url), host, asking(registry.address))
        asked = [(request.method, request.path) for request in registry.requests]
    assert len(asked) <= 10
    assert len(set(asked)) >= len(asked) - 1
