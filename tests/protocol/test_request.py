from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multi_fetch.errors import InvalidDigestError, InvalidRequestError
from multi_fetch.limits import MAX_LINE_BYTES, MAX_MEDIA_TYPES
from multi_fetch.oci.digest import Digest
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.names import EVERYWHERE
from multi_fetch.protocol.request import Control, Listing, Request, parse_line, parse_request

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


def request_of(line: bytes) -> Request:
    found = parse_line(line)
    assert isinstance(found, Request)
    return found


@pytest.mark.parametrize(
    ("text", "tag", "digest"),
    [
        ("latest", "latest", None),
        ("v1.2_x-y", "v1.2_x-y", None),
        ("_", "_", None),
        ("t" * 128, "t" * 128, None),
        (HEX, HEX, None),
        (DIGEST, "", DIGEST),
        (f"@{DIGEST}", "", DIGEST),
        (f"v1@{DIGEST}", "v1", DIGEST),
        ("md5:abc", "", "md5:abc"),
        ("sha512:" + HEX * 2, "", "sha512:" + HEX * 2),
    ],
)
def test_an_object_is_a_tag_a_digest_or_both(text: str, tag: str, digest: str | None) -> None:
    request = request_of(text.encode())
    assert (request.object, request.tag, request.digest) == (text, tag, digest)
    assert request.digest is None or isinstance(request.digest, Digest)


@pytest.mark.parametrize(
    "text",
    [
        "@",
        "v1@",
        ":",
        "a:",
        ":a",
        ".hidden",
        "-x",
        "t" * 129,
        "a/b",
        "docker.io/library/redis",
        "sha256:short",
        f"sha256:{HEX.upper()}",
        f"v1:{DIGEST}",
        f"{DIGEST}@{DIGEST}",
        f"v1@{DIGEST}@{DIGEST}",
        "tág",
        "latest\u2028",
        "\ufefflatest",
        "a,b",
    ],
)
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_line(text.encode())


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("before", [b"", b" ", b"\t \t"])
@pytest.mark.parametrize("between", [b" ", b"\t", b" \t  "])
def test_blanks_and_line_ends_mean_nothing(end: bytes, before: bytes, between: bytes) -> None:
    line = before + b"latest" + between + b"size:5" + between + b"content:none" + before + end
    wanted = Request(object="latest", tag="latest", size=5, is_content_wanted=False)
    assert request_of(line) == wanted


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"\r\n", b" \t\r\n", b"#", b"# a", b" \t# a", b"#\x00\x01", b"#!x"]
)
def test_nothing_and_comments_ask_for_nothing(line: bytes) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("line", "control"),
    [
        (b"!cancel 7\n", Control("cancel", ("7",))),
        (b"!", Control("")),
        (b"  !stop\r\n", Control("stop")),
        (b"! x", Control("", ("x",))),
        (b"!a\tb c", Control("a", ("b", "c"))),
    ],
)
def test_a_control_is_a_verb_and_its_arguments(line: bytes, control: Control) -> None:
    assert parse_line(line) == control


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("!tags", Request(object="!tags", listing=Listing.TAGS)),
        (
            " !tags\tdeadline:1s colour:blue ",
            Request(
                object="!tags", listing=Listing.TAGS, deadline_seconds=1.0, ignored=("colour",)
            ),
        ),
        (
            f"!referrers @{DIGEST} artifacttype:a/B+c",
            Request(
                object=f"!referrers @{DIGEST}",
                digest=Digest(DIGEST),
                listing=Listing.REFERRERS,
                artifact_type="a/B+c",
            ),
        ),
    ],
)
def test_a_listing_is_a_request_in_the_form_of_a_control(line: str, request_: Request) -> None:
    assert parse_line(line.encode()) == request_


@pytest.mark.parametrize(
    "line",
    [
        "!tags redis",
        "!tags artifacttype",
        "!tags size:5",
        "!tags deadline:0",
        "!referrers",
        "!referrers latest",
        f"!referrers v1@{DIGEST}",
        f"!referrers {DIGEST} children:all",
        f"!referrers {DIGEST} artifacttype:sbom",
        "!referrers sha256:abc",
    ],
)
def test_a_listing_that_cannot_be_read_fails_alone(line: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_line(line.encode())


def test_with_the_remote_of_all_each_line_has_its_repository() -> None:
    request = parse_line(b"redis:7 size:5", EVERYWHERE)
    assert isinstance(request, Request)
    assert request.reference("-") == Reference("docker.io/library/redis", "7")
    tags = parse_line(b"!tags localhost:5000/a deadline:1s", EVERYWHERE)
    assert isinstance(tags, Request)
    assert tags.object == "!tags localhost:5000/a"
    assert str(tags.reference("-")) == "localhost:5000/a"
    referrers = parse_line(f"!referrers redis@{DIGEST}".encode(), EVERYWHERE)
    assert isinstance(referrers, Request)
    assert str(referrers.reference("-")) == f"docker.io/library/redis@{DIGEST}"
    with pytest.raises(InvalidRequestError):
        parse_line(b"!tags", EVERYWHERE)


@pytest.mark.parametrize("byte", [0x00, 0x07, 0x0B, 0x0D, 0x1B, 0x7F])
def test_a_control_character_is_refused_and_not_repeated_raw(byte: int) -> None:
    with pytest.raises(InvalidRequestError, match="control character") as caught:
        parse_line(b"latest x:" + bytes((byte,)) + b"y\n")
    assert caught.value.message.isprintable()


def test_a_line_of_the_longest_length_is_read() -> None:
    rest = MAX_LINE_BYTES - len(b"latest x:")
    assert request_of(b"latest x:" + b"y" * rest).tag == "latest"
    with pytest.raises(InvalidRequestError, match="longer than 65536 bytes"):
        parse_line(b"latest x:" + b"y" * (rest + 1))


@pytest.mark.parametrize("line", [b"#" * 65_537, b" " * 65_537, b"!" + b"x" * 65_536])
def test_length_is_judged_before_anything_else(line: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="longer than"):
        parse_line(line)


@pytest.mark.parametrize("line", [b"\xff", b"lat\xc3\x28", b"# \xff", b"a x:\xed\xa0\x80"])
def test_what_is_not_utf_8_is_refused(line: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not UTF-8"):
        parse_line(line)


def test_media_types_are_kept_in_order_and_in_lower_case() -> None:
    request = request_of(b"latest mediatype:A/B mediatype:c/d+json")
    assert request.media_types == ("a/b", "c/d+json")


def test_media_types_have_a_limit() -> None:
    line = b"latest" + b" mediatype:a/b" * MAX_MEDIA_TYPES
    assert len(request_of(line).media_types) == MAX_MEDIA_TYPES
    with pytest.raises(InvalidRequestError, match="more than 16 times"):
        parse_line(line + b" mediatype:c/d")


def test_a_size_is_bytes_and_may_be_repeated_but_not_changed() -> None:
    assert request_of(b"a size:0").size == 0
    assert request_of(b"a size:007 size:7").size == 7
    assert request_of(b"a size:" + b"9" * 18).size == 10**18 - 1
    with pytest.raises(InvalidRequestError, match="given twice"):
        parse_line(b"a size:0 size:1")


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        ("small", "is not a hint"),
        (":5", "is not a hint"),
        (":", "is not a hint"),
        ("size:", "is not a size"),
        ("size:-1", "is not a size"),
        ("size:1.0", "is not a size"),
        ("size:5k", "is not a size"),
        ("size:٣", "is not a size"),
        ("size:" + "9" * 19, "is not a size"),
        ("mediatype:", "is not a media type"),
        ("mediatype:json", "is not a media type"),
        ("mediatype:*/*", "is not a media type"),
        ("mediatype:a/b;q=1", "is not a media type"),
        ("content:", "content:"),
        ("content:all", "content:"),
    ],
)
def test_a_hint_that_cannot_be_read_is_refused(hint: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        parse_line(f"latest {hint}".encode())


@pytest.mark.parametrize(
    "hint", ["colour:blue", "x:", "x::", "Size:5k", "SIZE:x", "sizes:1", "größe:5", "x:y:z"]
)
def test_a_hint_of_an_unknown_type_is_ignored(hint: str) -> None:
    kind = hint.partition(":")[0]
    wanted = Request(object="latest", tag="latest", ignored=(kind,))
    assert request_of(f"latest {hint}".encode()) == wanted


def test_a_command_line_reads_the_same_hints() -> None:
    wanted = request_of(f"{DIGEST} size:5 mediatype:a/b".encode())
    assert parse_request(DIGEST, ["size:5", "mediatype:a/b"]) == wanted


def test_a_bad_digest_says_that_it_is_one() -> None:
    with pytest.raises(InvalidDigestError, match="64 lower-case hex digits"):
        parse_line(b"latest@sha256:abc")


@pytest.mark.parametrize(
    "text",
    [
        "user:hunter2@host/name:tag",
        "user:hunter2@host",
        "user:hunter2@host:5000",
        "https://user:hunter2@host/name",
        "hunter2@user:x@host",
        "latest user:hunter2@host",
        "latest size:x@hunter2",
        "latest mediatype:user:hunter2@host",
    ],
)
def test_a_password_is_never_repeated(text: str) -> None:
    try:
        parse_line(text.encode())
    except InvalidRequestError as error:
        message = error.message
    else:
        message = ""
    assert "hunter2" not in message


# protocol.md, section 2: the rules request and control, by hand, over what is valid UTF-8.
BLANK = r"[ \t]"
VISIBLE = r"[^\x00-\x20\x7f]"
COMPONENT = "[a-z0-9]+"
ANY_DIGEST = rf"(?P<digest>{COMPONENT}(?:[+._-]{COMPONENT})*:[A-Za-z0-9=_-]+)"
TAG = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
OBJECT = rf"(?:{TAG}|(?:(?:{TAG})?@)?{ANY_DIGEST})"
HINT = rf"(?:(?!:){VISIBLE})+:{VISIBLE}*"
REQUEST = re.compile(rf"{BLANK}*{OBJECT}(?P<hints>(?:{BLANK}+{HINT})*){BLANK}*")
CONTROL = re.compile(rf"{BLANK}*!{VISIBLE}*(?:{BLANK}+{VISIBLE}+)*{BLANK}*")
NOTHING = re.compile(rf"{BLANK}*(?:#.*)?", re.DOTALL)
KNOWN = re.compile(r"[ \t](?:mediatype|size|content):")
REGISTERED = re.compile(r"(?:sha256|sha384|sha512|blake3):")

words = st.text(alphabet="latest sha256:0af@!#._-=\t+\x00\x7fäöü", max_size=30)


@given(words | st.text())
@example(f"@{DIGEST}")
@example("a:b c:d")
@example("! !")
def test_a_line_is_read_if_and_only_if_the_grammar_has_it(text: str) -> None:
    """Leaves out the known hints and algorithms, for which the grammar has rules of their own."""
    line = text.encode("utf-8", "replace").replace(b"\n", b"").removesuffix(b"\r")
    text = line.decode()
    request = REQUEST.fullmatch(text)
    if request is not None and (
        KNOWN.search(request["hints"]) or REGISTERED.match(request["digest"] or "")
    ):
        return
    try:
        found = parse_line(line)
    except InvalidRequestError:
        assert request is None
        assert CONTROL.fullmatch(text) is None
        assert NOTHING.fullmatch(text) is None
        return
    assert isinstance(found, Request) is (request is not None)
    assert isinstance(found, Control) is (CONTROL.fullmatch(text) is not None)
    assert (found is None) is (NOTHING.fullmatch(text) is not None)


@pytest.mark.parametrize(
    ("line", "is_plain"),
    [
        (f"sha256:{'0' * 64}", True),
        (f"v1@sha256:{'0' * 64} mediatype:a/b size:1 deadline:1s colour:blue", True),
        (f"sha256:{'0' * 64} digest:sha256:{'0' * 64}", True),
        (f"v1 digest:sha256:{'0' * 64}", False),
        (f"sha512:{'0' * 128}", False),
        *(
            (f"sha256:{'0' * 64} {hint}", False)
            for hint in ("content:none", "range:0-", "platform:linux/amd64", "children:all")
        ),
        (f"!referrers sha256:{'0' * 64}", False),
    ],
)
def test_what_is_plain_is_one_whole_object(line: str, *, is_plain: bool) -> None:
    request = parse_line(line.encode())
    assert isinstance(request, Request)
    assert request.is_plain() is is_plain


def test_every_part_of_a_request_was_thought_of() -> None:
    """What is plain leaves out what it does not know: a new part has to be looked at there."""
    of_no_matter = {
        *("object", "tag", "media_types", "size", "deadline_seconds", "artifact_type"),
        "ignored",
    }
    looked_at = {
        *("locator", "digest", "is_content_wanted", "platform", "byte_range", "children", "pin"),
        "listing",
    }
    assert {field.name for field in msgspec.structs.fields(Request)} == of_no_matter | looked_at


@given(st.binary())
def test_any_bytes_are_a_line_or_an_invalid_request(line: bytes) -> None:
    try:
        found = parse_line(line)
    except InvalidRequestError as error:
        message = error.message
    else:
        assert found is None or isinstance(found, Request | Control)
        message = "read"
    assert 0 < len(message) <= 2_000


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("latest", "h/r:latest"),
        (DIGEST, f"h/r@{DIGEST}"),
        (f"@{DIGEST}", f"h/r@{DIGEST}"),
        (f"v1@{DIGEST}", f"h/r:v1@{DIGEST}"),
    ],
)
def test_an_object_completes_a_locator_to_a_reference(text: str, reference: str) -> None:
    assert str(request_of(text.encode()).reference("h/r")) == reference
