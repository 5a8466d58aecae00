"""WWW-Authenticate, as RFC 9110 has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import RegistryError
from multi_fetch.registry.challenge import Challenge, parse_challenges

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/redis:pull"'
)


def test_docker_hubs_challenge_is_read_whole() -> None:
    assert parse_challenges(HUB) == [
        Challenge(
            "bearer",
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:library/redis:pull",
            },
        )
    ]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        (" , ,\t", []),
        ("Negotiate", [Challenge("negotiate")]),
        ("Negotiate, NTLM", [Challenge("negotiate"), Challenge("ntlm")]),
        ("Basic realm=", [Challenge("basic", {}, "realm=")]),
        ("Negotiate YWJj==", [Challenge("negotiate", {}, "YWJj==")]),
        (
            "Negotiate YWJj== ,\tBasic realm=x",
            [Challenge("negotiate", {}, "YWJj=="), Challenge("basic", {"realm": "x"})],
        ),
        ('BASIC Realm = "x"', [Challenge("basic", {"realm": "x"})]),
        ('Basic\trealm\t=\t"x"\t', [Challenge("basic", {"realm": "x"})]),
        (",, Basic ,, realm=x ,, charset=utf-8 ,,",
         [Challenge("basic", {"realm": "x", "charset": "utf-8"})]),
        (
            'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"',
            [
                Challenge("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
                Challenge("basic", {"realm": "simple"}),
            ],
        ),
        ('Basic realm="a, Bearer realm=b"', [Challenge("basic", {"realm": "a, Bearer realm=b"})]),
        ('Basic realm=""', [Challenge("basic", {"realm": ""})]),
        ('Basic realm="\\\\"', [Challenge("basic", {"realm": "\\"})]),
        ('Basic realm="Zugänge"', [Challenge("basic", {"realm": "Zugänge"})]),
    ],
)  # fmt: skip
def test_what_the_grammar_allows_is_read(header: str, expected: list[Challenge]) -> None:
    assert parse_challenges(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        "=",
        '"Basic"',
        'Basic realm="x',
        'Basic realm="x\\"',
        "Basic realm=x realm2=y",
        "Basic realm=x, Realm=y",
        "Bearer realm=https://auth.example/token",
        "Bearer realm='a b'",
        'Basic "x"',
        'Basic realm="a"b',
        "Basic realm=x; charset=y",
        'Basic realm="a\x00b"',
        "Negotiate abc== def",
    ],
)
def test_what_it_does_not_is_refused_and_shown(header: str) -> None:
    with pytest.raises(RegistryError, match="WWW-Authenticate") as caught:
        parse_challenges(header)
    assert repr(header) in caught.value.message


def test_a_refused_header_is_shown_only_in_part() -> None:
    with pytest.raises(RegistryError) as caught:
        parse_challenges('Basic realm="' + "x" * 10_000)
    assert len(caught.value.message) < 400


def test_a_header_cut_anywhere_is_refused_or_has_whole_values_alone() -> None:
    (whole,) = parse_challenges(HUB)
    read = 0
    for end in range(len(HUB)):
        try:
            challenges = parse_challenges(HUB[:end])
        except RegistryError:
            continue
        read += 1
        for challenge in challenges:
            assert challenge.params.items() <= whole.params.items()
    assert 0 < read < len(HUB)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        challenges = parse_challenges(text)
    except RegistryError:
        return
    assert all(challenge.scheme == challenge.scheme.lower() for challenge in challenges)


TOKENS = st.text("abcXYZ019-._~!#$", min_size=1, max_size=8)


@given(st.dictionaries(TOKENS.map(str.lower), st.text("aZ0 ,=\"\\'ä\t", max_size=12), max_size=4))
def test_values_come_back_as_they_were_quoted(params: dict[str, str]) -> None:
    quoted = {
        name: '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for name, value in params.items()
    }
    header = "Bearer " + " , ".join(f"{name}={value}" for name, value in quoted.items())
    assert parse_challenges(header) == [Challenge("bearer", params)]


def test_a_hostile_header_takes_no_time_to_refuse() -> None:
    for text in ("a=" * 20_000, " ," * 20_000, 'a="' + "\\" * 40_001, "A " * 20_000, "a\t" * 9_999):
        try:
            parse_challenges("Basic " + text)
        except RegistryError:
            continue
