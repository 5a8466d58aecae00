"""Secrets in every form in which a server may repeat them."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from multi_fetch.registry.concealment import (
    MAX_SIGNED,
    conceal,
    long_secrets_of,
    secrets_of,
    telling,
)

# base64 of alice:s3cret
LOGIN = "YWxpY2U6czNjcmV0"


@pytest.mark.parametrize(
    ("headers", "form", "said", "left"),
    [
        (
            {"Authorization": "Bearer abc.def"},
            "",
            "got 'Bearer abc.def', abc.def",
            "got '***', ***",
        ),
        ({"Authorization": f"Basic {LOGIN}"}, "", f"{LOGIN} is alice:s3cret", "*** is ***"),
        ({"Authorization": f"Basic {LOGIN}"}, "", "s3cret of alice", "*** of alice"),
        ({"Authorization": "Basic !"}, "", "Basic !", "***"),
        ({"Authorization": "Bearer a/b+c=="}, "", "a%2Fb%2Bc%3D%3D a\\/b+c==", "*** ***"),
        ({"Authorization": "Basic YTpiYw=="}, "", "YTpiYw YTpiYw==", "*** ***"),
        ({"X-Key": 'k"3\\y'}, "", r'{"key": "k\"3\\y"}', '{"key": "***"}'),
        ({"X-Key": "k3y"}, "", "X-Key: k3y", "X-Key: ***"),
        ({}, "refresh_token=a%2Bb&scope=x", "a%2Bb, a+b, x", "***, ***, x"),
        ({}, "username=alice&password=s3+cret", "alice s3+cret s3 cret", "alice *** ***"),
        ({"Accept": "a/b", "Range": "bytes=0-", "User-Agent": "u"}, "", "a/b bytes=0- u", None),
        ({"Authorization": ""}, "password=&refresh_token", "any", None),
    ],
)
def test_what_was_sent_is_not_repeated(
    headers: dict[str, str], form: str, said: str, left: str | None
) -> None:
    assert conceal(said, secrets_of(headers, form)) == (said if left is None else left)


def test_a_secret_within_another_leaves_nothing_of_either() -> None:
    assert conceal("aa aaaa", secrets_of({"a": "aa", "b": "aaaa"}, "")) == "*** ***"


def test_what_is_too_long_to_be_there_by_chance_is_a_login_in_all_its_parts() -> None:
    password = "open-sesame-open-sesame"
    pair = f"al:{password}"
    login = base64.b64encode(pair.encode()).decode()
    found = long_secrets_of({"Authorization": f"Basic {login}", "Accept": "a" * 99})
    assert found == [login.rstrip("="), pair, password]
    for password, is_told in (("manifest", 0), ("20261125", 0), ("mani-f3", 0), ("mani-f3s", 1)):
        # a short password may be a word or a number, and stand there for its own sake
        login = base64.b64encode(f"al:{password}".encode()).decode()
        assert long_secrets_of({"Authorization": f"Basic {login}"}).count(password) == is_told
    assert long_secrets_of({"Authorization": f"Basic {LOGIN}"}) == [LOGIN, "alice:s3cret"]
    assert long_secrets_of({"Authorization": "Basic YTpi"}) == []
    assert long_secrets_of({"Authorization": "Basic !"}) == []
    assert long_secrets_of({"Authorization": "Bearer abc", "X-Key": "k" * 20}) == ["k" * 20]
    assert long_secrets_of({"Authorization": "Bearer t0ken-12", "X-Region": "eu-west-1"}) == [
        "t0ken-12"
    ]


# with all that is written otherwise somewhere
PASSWORD = "pä<ss>&w\"o'rd+/ s3cret%"


@pytest.mark.parametrize(
    "written",
    [
        PASSWORD,
        html.escape(PASSWORD),
        html.escape(PASSWORD).replace("+", "&#43;").replace("&quot;", "&#34;"),
        quote(PASSWORD),
        quote(PASSWORD).lower(),
        quote_plus(PASSWORD),
        quote(PASSWORD, safe="!'()*"),
        json.dumps(PASSWORD),
        json.dumps(PASSWORD, ensure_ascii=False).replace("&", r"\u0026").replace("<", r"\u003C"),
        repr(PASSWORD),
        repr(PASSWORD.encode()),
        PASSWORD.encode("latin-1").decode("utf-8", "replace"),
        PASSWORD.replace(" ", "  "),
        quote(quote(PASSWORD)),
        html.escape(html.escape(PASSWORD)),
        html.escape(quote(json.dumps(PASSWORD))),
    ],
)
def test_a_secret_is_known_in_each_way_to_write_it(written: str) -> None:
    login = base64.b64encode(f"al:{PASSWORD}".encode()).decode()
    sent = {"Authorization": f"Basic {login}"}
    told = telling(f"no login as al with {written} here", secrets_of(sent, ""))
    assert "***" in told
    assert "s3cret" not in told


def test_the_beginning_of_a_secret_is_known_and_a_users_name_is_none() -> None:
    login = base64.b64encode(b"robot-of-team-one:open-sesame-2026").decode()
    for sent, said in (
        ({"Authorization": "Bearer eyJhbGciOi.J9.x7Qk"}, "bad token 'eyJhbGciOi.J9...'"),
        ({"Authorization": f"Basic {login}"}, f"cannot read {login[:20]}..."),
        ({"Authorization": f"Basic {login}"}, "robot-of-team-one has not open-sesame-20..."),
    ):
        assert telling(said, secrets_of(sent, "")) == "***"
    secrets = secrets_of({"Authorization": f"Basic {login}"}, "")
    for said in ("robot-of-team-one may not pull", "no Basic login of an open-source project"):
        assert telling(said, secrets) == said
    form = "username=robot-of-team-one&password=open-sesame-2026"
    assert telling("robot-of-team-one may not pull", secrets_of({}, form)) != "***"
    assert telling("not open-sesame-20", secrets_of({}, form)) == "***"


def test_what_has_no_secret_is_told_whole() -> None:
    secrets = secrets_of({"Authorization": "Basic YTp6eg==", "X-Tenant": "manifests"}, "")
    said = "100&#37; of \\u0041 isn&apos;t %41 <b>"
    assert telling(said, secrets) == said


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-Host", "x-forwarded-server", "Origin", "Referer", "X-Override-Base-Url"],
)
@pytest.mark.parametrize(
    "value",
    ["registry-1.docker.example", "https://registry-1.docker.example", "cdn.example:8443/"],
)
def test_the_name_of_a_place_is_no_secret(name: str, value: str) -> None:
    """As in X-Forwarded-Host, and of whom a proxy stands for: they lead, and are led, there."""
    headers = {name: value}
    assert secrets_of(headers, "") == long_secrets_of(headers) == []


# Of headers in which systems have them, or might.
SECRET_NAMES = (
    *("Cookie", "X-Registry-Pass", "X-Credential", "X-Session", "Private-Value", "X-Signature"),
    *("X-Jwt", "X-Api", "X-Host-Pwd", "X-Login", "X-Upstream-Secret", "X-Registry-Sid"),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "registry-1.docker.example"),
        ("X-Api-Key", "registry-1.docker.example"),
        *((name, "my-long.password-is.open") for name in SECRET_NAMES),
        ("X-Tenant", "https://alice:s3cret@registry-1.docker.example"),
        ("X-Tenant", "registry-1.docker.example/s3cret"),
        ("X-Tenant", "abcdefghij.0123456789abcdef"),
        ("X-Tenant", "EYJHBGCIOIJ.eyjzdwiioiixmjm.sflkxwrjsmekkfqt"),
    ],
)
def test_what_may_be_more_than_a_place_is_one(name: str, value: str) -> None:
    assert value in secrets_of({name: value}, "")
    assert value in long_secrets_of({name: value})


SIGNATURE = "aB3+/x9aB3x9aB3x9aB3x9=="


@pytest.mark.parametrize(
    "said",
    [
        f"Cannot GET /blob?sig={SIGNATURE}&se=1",
        f"no such https://store.example/blob?se=1&amp;sig={quote(SIGNATURE)} here",
        f"args: {{'sig': '{SIGNATURE}'}}",
        f"sig={quote(SIGNATURE, safe='')}",
        f"sig={SIGNATURE[:16]}",
    ],
)
def test_what_is_signed_in_a_url_is_not_repeated(said: str) -> None:
    query = f"se=2026-11-25T17%3A25%3A00Z&sig={quote(SIGNATURE)}"
    told = telling(said, secrets_of({}, "", query))
    assert SIGNATURE[:8] not in told
    assert quote(SIGNATURE[:8], safe="") not in told


def test_a_url_with_very_many_signatures_is_known_by_a_few() -> None:
    """Each answer of a store that errs is looked at: with 300 of them that took 0.4 s."""
    query = "&".join(f"{number}={number:020}x" for number in range(300))
    assert len(secrets_of({}, "", query)) <= 3 * MAX_SIGNED


def test_what_we_ask_for_in_a_url_is_repeated_and_so_is_a_time() -> None:
    said = "no repository:library/redis:pull for registry.example since 2026-11-25T17:25:00.000Z"
    query = "service=registry.example&scope=repository%3Alibrary%2Fredis%3Apull"
    query += "&se=2026-11-25T17%3A25%3A00.000Z&ns=a-registry-with-a-long-name.example"
    assert telling(said, secrets_of({}, "", query)) == said


def test_a_digest_or_a_type_in_a_query_is_no_secret() -> None:
    digest = f"sha256:{'ab' * 32}"
    query = f"digest={digest.replace(':', '%3A')}&response-content-type=application%2Foctet-stream"
    for said in (f"no blob {digest}", "no application/octet-stream", "not application/vnd.oci.x"):
        assert telling(said, secrets_of({}, "", query)) == said


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('Get "https://al:pw@s.example/b?sig=abc": EOF', 'Get "https://s.example/b?...": EOF'),
        (
            "<a href='https://s.example/b?abc'>here</a>",
            "<a href='https://s.example/b?...'>here</a>",
        ),
        (r"https:\/\/al:pw@s.example\/b?sig=a&b", r"https:\/\/s.example\/b?..."),
        ("What is this? Nothing.", "What is this? Nothing."),
        ('{"token": "abc", "expires_in": 300}', '{"token": "***", "expires_in": 300}'),
        (r'{"token": "a\/b\u0026c", "n": 1}', '{"token": "***", "n": 1}'),
        (r'{"error": "{\"token\": \"a\\\/b\"}"}', r'{"error": "{\"token\": \"***\"}"}'),
        ('{"access_token":"abc', '{"access_token":"***'),
        (r"{\"refreshToken\":\"abc\"}", r"{\"refreshToken\":\"***\"}"),
        ('{"error": "invalid token: expired"}', '{"error": "invalid token: expired"}'),
    ],
)
def test_what_others_have_asked_or_got_is_not_told_by_its_form(said: str, told: str) -> None:
    """A registry that fails to ask its store may quote the URL, and a token service its answer."""
    assert telling(said, []) == told
