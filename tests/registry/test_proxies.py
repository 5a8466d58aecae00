"""Which requests go through a proxy, and which proxies can be used."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import HostsError
from multi_fetch.registry.proxies import NO_PROXIES, Proxies, parse_proxy
from multi_fetch.registry.url import Origin

PROXY = "http://proxy.example:3128"


def at(host: str, port: int = 443, scheme: str = "https") -> Origin:
    return Origin(scheme, host, port)


def test_each_scheme_has_its_own_proxy_or_that_for_all() -> None:
    secure, plain = at("r.example"), at("r.example", 80, "http")
    proxies = Proxies(http="http://one", https="http://two", all="http://three")
    assert (proxies.of(plain), proxies.of(secure)) == ("http://one", "http://two")
    assert Proxies(all="http://three").of(secure) == "http://three"
    assert Proxies(http="http://one").of(secure) == ""
    assert NO_PROXIES.of(secure) == ""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "::1", "127.9.9.9"])
def test_this_machine_is_asked_through_no_proxy_unless_that_is_said_of_it(host: str) -> None:
    assert Proxies(all=PROXY).of(at(host)) == ""
    assert Proxies(all=PROXY, loopback=True).of(at(host)) == PROXY


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("*", "r.example"),
        ("r.example", "r.example"),
        ("R.Example", "r.example"),
        ("example", "r.example"),
        (".example", "r.example"),
        ("*.example", "r.example"),
        ("other, r.example ,x", "r.example"),
        ("other r.example\tx", "r.example"),  # as curl reads it
        ("r.example:443", "r.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:443", "10.0.0.1"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::7"),
    ],
)
def test_no_proxy_names_hosts_networks_and_ports(no_proxy: str, host: str) -> None:
    """As golang.org/x/net/http/httpproxy describes it."""
    assert Proxies(all=PROXY, no_proxy=no_proxy).of(at(host)) == ""


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", "r.example"),
        (",", "r.example"),
        ("ample", "r.example"),
        (".r.example", "r.example"),
        ("r.example:5000", "r.example"),
        ("other.example", "r.example"),
        ("10.0.0.0/8", "11.0.0.1"),
        ("10.0.0.1", "10.0.0.11"),
        ("2001:db8::1", "2001:db8::11"),
        ("10.0.0.0/8", "10.example"),
    ],
)
def test_all_others_go_through_it(no_proxy: str, host: str) -> None:
    assert Proxies(all=PROXY, no_proxy=no_proxy).of(at(host)) == PROXY


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (PROXY, PROXY),
        ("proxy.example:3128", PROXY),
        ("https://proxy.example", "https://proxy.example"),
        ("http://me:s3cret@proxy.example:3128/", "http://me:s3cret@proxy.example:3128/"),
        ("[::1]:3128", "http://[::1]:3128"),
    ],
)
def test_a_proxys_scheme_may_be_left_out(text: str, url: str) -> None:
    assert parse_proxy(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "socks5://me:s3cret@proxy:1080",
        "http://",
        "http://me:s3cret@",
        "http://me:s3cret@proxy:99999",
        "http://me:s3cret@proxy/path",
        "http://me:s3cret@proxy?a",
        "http://[me:s3cret@proxy",
        "http://me:s3cret@pröxy",
        "http://proxy\n",
        "http://me:s3cret@xn--0",
        f"http://me:s3cret@{'a' * 64}é.example",
    ],
)
def test_what_is_no_proxy_is_an_error_without_its_password(text: str) -> None:
    with pytest.raises(HostsError) as caught:
        parse_proxy(text)
    assert "s3cret" not in str(caught.value)
    assert "me" not in str(caught.value).partition("proxy")[0]


@pytest.mark.parametrize("text", ["http://me:s3cret", "me:s3cret"])
def test_a_login_whose_proxy_was_forgotten_is_not_shown(text: str) -> None:
    with pytest.raises(HostsError, match=r"me:\.\.\.' is no proxy"):
        parse_proxy(text)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_a_proxy_or_a_hosts_error(text: str, no_proxy: str) -> None:
    try:
        found = Proxies(all=text, no_proxy=no_proxy).of(at("r.example"))
    except HostsError:
        return
    assert found == "" or found.isascii()


@pytest.mark.parametrize(
    ("url", "pair"),
    [
        ("http://me:s3cret@proxy", b"me:s3cret"),
        ("me:s%40%3A%c3%a9@proxy:3128", "me:s@:é".encode()),
        ("http://token@proxy", b"token:"),
        ("http://:s3cret@proxy", b":s3cret"),
        ("http://proxy", None),
        ("", None),
    ],
)
def test_the_login_of_a_proxy_is_known_as_it_is_sent(url: str, pair: bytes | None) -> None:
    sent = Proxies(https=url).login(at("r.example"))
    if pair is None:
        assert sent == {}
    else:
        assert sent == {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def test_no_password_is_shown() -> None:
    assert "s3cret" not in repr(Proxies(all="http://me:s3cret@proxy"))
