"""URLs: whatever a server writes is one or is refused, and what it signed stays as it was."""

from __future__ import annotations

import ssl
import traceback
import unicodedata
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multi_fetch.errors import RegistryError
from multi_fetch.registry.answer import Asked
from multi_fetch.registry.url import HOST, MAX_URL_CHARACTERS, Origin, Url, join, parse_url, shown

BASE = parse_url("https://registry.example:5000/v2/a/blobs/sha256:ab?from=here")

# RFC 3986, appendix A: pchar, "/" and "?", as a signature's characters may be.
AS_IT_IS = "abcXYZ019-._~!$&'()*+,;=:@/?"
ENCODED = st.sampled_from(["%2F", "%2f", "%20", "%25", "%C3%A9", "%7E", "%zz", "%"])
SIGNED = st.lists(st.one_of(st.sampled_from(AS_IT_IS), ENCODED), max_size=40).map("".join)
ANYTHING = st.text(st.characters())  # surrogates too


def expect_url(url: Url) -> None:
    """What may be sent, and be sent again."""
    assert url.origin.scheme in {"http", "https"}
    assert HOST.fullmatch(url.origin.host)
    assert 0 <= url.origin.port <= 65_535
    assert url.target.startswith("/")
    assert url.target.isascii()
    assert not any(c.isspace() or not c.isprintable() for c in str(url))
    assert parse_url(str(url)) == url


@given(ANYTHING)
@example("http://[::1")
@example("http://a\udcff/")
@example("http://a/\udcff")
@example("http://a/?\ud800")
@example("http://a:99999/")
@example("http://xn--0/")
@example("//")
@example("http:a")
def test_any_text_is_a_url_or_a_registry_error(text: str) -> None:
    try:
        url = parse_url(text)
    except RegistryError:
        return
    expect_url(url)


@given(ANYTHING, st.sampled_from(["", "/", "//", "?", "http://", "HTTPS://h", "http:", "../"]))
@example("/\udcff", "")
@example("[", "//")
def test_any_location_leads_to_a_url_or_is_a_registry_error(text: str, begin: str) -> None:
    try:
        url = join(BASE, begin + text)
    except RegistryError:
        return
    expect_url(url)


@given(SIGNED, SIGNED)
@example(";", "")
@example("a/../b", "x=..")
def test_what_is_signed_stays_as_it_was_signed(path: str, query: str) -> None:
    """S3, GCS and Azure sign the very characters of path and query."""
    path = path.replace("?", "").replace("//", "/")
    location = f"https://store.example/{path}" + (f"?{query}" if query else "")
    url = parse_url(location)
    assert str(url) == location
    assert join(BASE, location) == url


@given(SIGNED.filter(bool))
def test_a_relative_location_keeps_its_query(query: str) -> None:
    joined = join(BASE, f"/next?{query}")
    assert str(joined) == f"https://registry.example:5000/next?{query}"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://store.example/a%2Fb?X-Amz-Signature=ab%2Bcd&x=a+b", None),
        ("https://store.example:443/a", "https://store.example/a"),
        ("http://store.example:443/a", None),
        ("https://store.example", "https://store.example/"),
        ("https://store.example?sig=1", "https://store.example/?sig=1"),
        ("https://STORE.example/Path", "https://store.example/Path"),
        ("https://user:secret@store.example/a#part", "https://store.example/a"),
        ("https://[2001:DB8::1]:5000/a", "https://[2001:db8::1]:5000/a"),
        ("https://bücher.example/ä b", "https://xn--bcher-kva.example/%C3%A4%20b"),
        ("//store.example/a", "https://store.example/a"),
        ("/v2/token?a=b", "https://registry.example:5000/v2/token?a=b"),
        ("?page=2", "https://registry.example:5000/v2/a/blobs/sha256:ab?page=2"),
        ("../manifests/x", "https://registry.example:5000/v2/a/manifests/x"),
        ("", str(BASE)),
        ("  https://store.example/a\t", "https://store.example/a"),
        ('https://store.example/<a>"{b}"', "https://store.example/%3Ca%3E%22%7Bb%7D%22"),
    ],
)
def test_where_a_location_leads(location: str, expected: str | None) -> None:
    assert str(join(BASE, location)) == (expected or location)


def test_a_location_with_another_scheme_leads_nowhere() -> None:
    for location in ("sha256:cd", "ftp://store.example/a", "data:,x", "javascript:0"):
        with pytest.raises(RegistryError, match=r"no URL|no http or https URL"):
            join(BASE, location)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "store.example/a",
        "ftp://store.example/a",
        "file:///etc/passwd",
        "https:///a",
        "https://.store.example/a",
        "https://./a",
        "https://:5000/a",
        "https://store.example:port/",
        "https://store.example:65536/",
        "https://st ore.example/",
        "https://st\nore.example:x/",
        "https://[::1/",
        "https://[nonsense]/",
        "https://xn--0/",
        "https://" + "a" * 64 + "é.example/",
    ],
)
def test_what_is_no_url_is_a_registry_error(text: str) -> None:
    with pytest.raises(RegistryError, match=r"no URL|no http or https URL"):
        parse_url(text)


def test_a_host_is_no_longer_than_tls_can_say() -> None:
    host = "a23456789." * 25 + "abcde"
    context = ssl.create_default_context()
    context.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=parse_url(f"https://{host}/x").origin.host
    )
    with pytest.raises(RegistryError, match="no host that can be looked up"):
        parse_url(f"https://{host}f/x")


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_a_url_has_a_bound_also_where_it_is_encoded(letter: str) -> None:
    encoded = 1 if letter == "a" else 6
    fits = "https://store.example/" + letter * ((MAX_URL_CHARACTERS - 40) // encoded)
    assert len(str(parse_url(fits))) > MAX_URL_CHARACTERS - 40
    with pytest.raises(RegistryError, match="is longer than 8192 characters"):
        parse_url(fits + letter * 40)


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        (Origin("https", "registry.example", 443), "registry.example"),
        (Origin("https", "registry.example", 80), "registry.example:80"),
        (Origin("http", "registry.example", 80), "registry.example"),
        (Origin("http", "::1", 80), "[::1]"),
        (Origin("http", "::1", 5000), "[::1]:5000"),
    ],
)
def test_a_port_that_goes_without_saying_is_left_out(origin: Origin, authority: str) -> None:
    assert origin.authority == authority
    assert parse_url(f"{origin}/x").origin == origin


@given(ANYTHING)
@example("http://user:secret@[::1/?token=secret")
@example("user:secret@host?secret")
def test_what_is_shown_controls_no_terminal_and_has_an_end(text: str) -> None:
    told = shown(text)
    assert not any(unicodedata.category(character) == "Cc" for character in told)
    assert len(told) <= 200 + len("...")


def test_what_is_shown_has_neither_login_nor_query() -> None:
    for text in ("http://user:secret@[::1/?token=secret", "https://user:secret@a.example/x?secret"):
        assert "secret" not in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://user:secret/secret@a.example/x",
        "https://user:secret?secret@a.example/x",
        "https://user:secret℀@a.example/x",
        "https:///user:secret@a.example/x",
        "https:user:secret@a.example/x",
        "https://user:secret@a.example:x/x",
        "https://a.example:x/x?sig=secret@secret",
        "//user:secret/@[",
        "https://user:secret",
        "https://user:secret/x",
        "https://user:5secret",
    ],
)
def test_a_malformed_url_shows_no_login_either(text: str) -> None:
    """The words of urllib's errors do, in the message or in a traceback."""
    with pytest.raises(RegistryError, match="is no") as caught:
        parse_url(text)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_malformed_location_shows_no_login_either() -> None:
    location = "//user:secret℀@a.example/"
    with pytest.raises(RegistryError, match="is no") as caught:
        join(BASE, location)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_signature_is_in_what_is_sent_and_not_in_what_is_shown() -> None:
    url = parse_url("https://a.example/x?sig=secret")
    assert str(url).endswith("?sig=secret")
    assert "secret" not in repr(Asked("GET", url))


def test_nothing_of_a_target_is_lost() -> None:
    url = parse_url("https://a.example/é/%C3%A9?ü=%C3%BC")
    assert unquote(urlsplit(str(url)).path) == "/é/é"
    assert unquote(urlsplit(str(url)).query) == "ü=ü"
