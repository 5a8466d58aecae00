"""Whose certificates are trusted, which are shown, and what becomes of files that are no use."""

from __future__ import annotations

import gc
import ssl
import weakref
from pathlib import Path

import certifi
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from multi_fetch.errors import HostsError
from multi_fetch.limits import MAX_ALL_CERTIFICATES_BYTES, MAX_CERTIFICATES_BYTES
from multi_fetch.registry import tls as tls_module
from multi_fetch.registry.tls import Contexts, Tls, Trust, new_context, roots
from multi_fetch.registry.url import Origin

OWN = Origin("https", "registry.example", 443)
OTHER = Origin("https", "store.example", 443)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def root(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def pair(authority: trustme.CA, tmp_path: Path) -> tuple[str, str]:
    issued = authority.issue_cert("client@example.org")
    certificate, key = tmp_path / "client.cert", tmp_path / "client.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return str(certificate), str(key)


def test_by_default_name_and_certificate_are_checked_with_tls_12_at_least() -> None:
    context = new_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_roots_of_ones_own_come_in_addition_to_the_systems(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[ssl.SSLContext] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda each: loaded.append(each))  # noqa: PLW0108 - a built-in is no method
    context = new_context(Tls(ca_files=(root,)))
    assert loaded == [context]
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("is_there", [True, False])
def test_where_openssl_knows_no_place_the_systems_is_looked_for_then_certifis(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_there: bool
) -> None:
    none = ssl.DefaultVerifyPaths(None, None, "", "", "", "")  # type: ignore[arg-type]  # as told
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: none)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda _: None)
    read: list[str] = []
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda _, path: read.append(path))
    bundle = tmp_path / "bundle.pem"
    monkeypatch.setattr(tls_module, "SYSTEMS_FILES", (str(tmp_path / "absent"), str(bundle)))
    if is_there:
        bundle.touch()
    new_context()
    assert read == [str(bundle) if is_there else certifi.where()]


def test_who_is_not_verified_needs_no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ssl.SSLContext, "load_default_certs")
    context = new_context(Tls(is_verified=False))
    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname


def test_certificates_are_shown_to_the_host_and_not_to_where_it_leads(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    monkeypatch.setattr(
        ssl.SSLContext, "load_cert_chain", lambda context, *_, **__: shown.append(context)
    )
    trust = Trust(Tls(client_pairs=(pair,)), OWN)
    elsewhere, own = trust.context(OTHER), trust.context(OWN)
    assert shown == [own]
    assert elsewhere is not own
    assert trust.context(OWN) is own


def test_without_certificates_to_show_there_is_one_context_for_all() -> None:
    trust = Trust(Tls(is_verified=False), OWN)
    assert trust.context(OWN) is trust.context(OTHER)


def test_hosts_share_a_context_unless_something_is_particular_to_one(
    root: str, pair: tuple[str, str]
) -> None:
    shared = Contexts()
    one, other = Trust(Tls(), OWN, shared), Trust(Tls(), OTHER, shared)
    assert one.context(OWN) is other.context(OTHER)
    assert one.context(OWN) is one.proxy_context()
    assert Trust(Tls(ca_files=(root,)), OWN, shared).context(OWN) is not one.context(OWN)
    known = Trust(Tls(client_pairs=(pair,)), OWN, shared)
    assert known.context(OWN) is not known.context(OTHER)
    lax = Trust(Tls(is_verified=False), OWN, shared)
    assert lax.context(OWN).verify_mode is ssl.CERT_NONE
    assert lax.proxy_context().verify_mode is ssl.CERT_REQUIRED


def test_a_context_that_no_host_has_any_more_is_not_kept() -> None:
    shared = Contexts()
    trust = Trust(Tls(), OWN, shared)
    made = weakref.ref(trust.context(OWN))
    del trust
    gc.collect()
    assert made() is None


def test_a_key_may_be_in_the_certificates_file(
    authority: trustme.CA, pair: tuple[str, str], tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_text("".join(Path(path).read_text() for path in pair))
    Tls(client_pairs=((str(both), ""), pair)).check()


def test_what_is_good_passes_the_check(root: str, pair: tuple[str, str]) -> None:
    Tls().check()
    Tls(ca_files=(root,), client_pairs=(pair,)).check()


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\n"])
def test_a_file_that_is_no_use_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "odd.pem"
    if content is not None:
        path.write_text(content)
    for tls in (Tls(ca_files=(str(path),)), Tls(client_pairs=((str(path), ""),))):
        with pytest.raises(HostsError, match="cannot be used") as caught:
            tls.check()
        assert caught.value.path == str(path)
        with pytest.raises(HostsError, match=r"odd\.pem"):
            Trust(tls, OWN).context(OWN)


def test_a_file_that_is_too_large_for_certificates_is_not_read(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    # It has a good end, which would be found.
    path = tmp_path / "large.pem"
    text = Path(pair[0]).read_bytes() + Path(pair[1]).read_bytes()
    path.write_bytes(b"#\n" * (MAX_CERTIFICATES_BYTES // 2) + text)
    for tls in (
        Tls(ca_files=(str(path),)),
        Tls(client_pairs=((str(path), ""),)),
        Tls(client_pairs=((pair[0], str(path)),)),
    ):
        with pytest.raises(HostsError, match=f"large.pem.*more than {MAX_CERTIFICATES_BYTES}"):
            tls.check()


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    certificate, key = pair
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cret"),
        )
    )
    with pytest.raises(HostsError, match="without a password"):
        Tls(client_pairs=((certificate, str(locked)),)).check()


def test_a_key_of_another_certificate_is_refused(
    authority: trustme.CA, pair: tuple[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other.key"
    authority.issue_cert("other@example.org").private_key_pem.write_to_path(str(other))
    with pytest.raises(HostsError, match="cannot be used"):
        Tls(client_pairs=((pair[0], str(other)),)).check()


def test_the_roots_are_named_by_where_they_are(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", root)
    assert roots() == root


def test_the_files_of_all_hosts_together_have_a_bound(tmp_path: Path, root: str) -> None:
    """Each is read into a context of its own, where it takes eleven times its size."""
    filled = b"#\n" * (MAX_CERTIFICATES_BYTES // 2 - 4_000) + Path(root).read_bytes()
    contexts, kept = Contexts(), []
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(filled)
        kept.append(contexts.get(Tls(ca_files=(str(tmp_path / name),))))
    (tmp_path / "three").write_bytes(filled)
    third = Tls(ca_files=(str(tmp_path / "three"),))
    with pytest.raises(HostsError, match=rf"three .* all hosts .* {MAX_ALL_CERTIFICATES_BYTES};"):
        contexts.get(third)
    contexts.get(Tls())  # the system's roots are no file of a host
    kept.pop()
    assert contexts.get(third).verify_mode is ssl.CERT_REQUIRED
