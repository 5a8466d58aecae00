"""protocol.md is true: its bytes, its tables and its numbers are those of the code."""

from __future__ import annotations

import base64
import json
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgpack  # type: ignore[import-untyped]  # it ships no types
import msgspec
import pytest

from multi_fetch import durations, errors, limits
from multi_fetch.cli.arguments import FAILURE, SUCCESS, UNUSABLE, USAGE
from multi_fetch.cli.multi_fetch import make_parser
from multi_fetch.cli.store import ANSWERS, DATA
from multi_fetch.errors import InvalidRequestError, MultiFetchError
from multi_fetch.oci import manifest, platform
from multi_fetch.oci.descriptor import encode_hook
from multi_fetch.oci.digest import NO_DIGEST
from multi_fetch.oci.media_types import ACCEPTED_MANIFEST_TYPES
from multi_fetch.oci.platform import parse_platform
from multi_fetch.protocol import frames, request
from multi_fetch.protocol.framing import END_OF_STREAM, FrameDecoder
from multi_fetch.protocol.request import Control, Request, parse_line
from multi_fetch.protocol.wire import JsonLinesWire
from multi_fetch.remotes import Report
from multi_fetch.worker.listing import REFERRERS_TYPE, TAGS_TYPE
from multi_fetch.worker.serve import SIGNALS, STDOUT_CLOSED_STATUS
from tests import parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "protocol.md").read_text("utf-8")
EXAMPLES = [
    (bytes.fromhex(found[1]), [json.loads(line) for line in found[2].splitlines()])
    for found in re.finditer(r"```hex\n(.*?)```\n\n```json\n(.*?)```", TEXT, re.DOTALL)
]
LEAVES = [leaf for leaf in vars(errors).values() if isinstance(leaf, type)]


def section(title: str) -> str:
    """The text below a heading, to the next one of any level."""
    found = re.search(
        rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ [A-Z0-9`])", TEXT, re.DOTALL | re.MULTILINE
    )
    assert found is not None, title
    return found[1]


def table(text: str, head: str) -> list[list[str]]:
    """The rows of the table whose first line begins with ``head``."""
    _, found, rest = text.partition(f"| {head} ")
    assert found, head
    rows: list[list[str]] = []
    for line in rest.splitlines()[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def bare(cell: str) -> str:
    return cell.strip("`")


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [plain(element) for element in value]
    if isinstance(value, dict):
        return {name: plain(element) for name, element in value.items()}
    return value


def payloads(stream: bytes) -> Iterator[bytes]:
    while stream:
        (length,) = struct.unpack_from(">I", stream)
        yield stream[4 : 4 + length]
        stream = stream[4 + length :]


def test_each_block_of_bytes_has_its_meaning_beside_it() -> None:
    assert len(EXAMPLES) >= 12
    assert len(EXAMPLES) == TEXT.count("```hex")
    for stream, meaning in EXAMPLES:
        decoded = [msgpack.unpackb(payload, raw=False) for payload in payloads(stream)]
        assert plain(decoded) == meaning


def test_each_kind_of_frame_has_an_example() -> None:
    shown = {frame[0] for _, meaning in EXAMPLES for frame in meaning}
    assert shown >= frames.KINDS


def test_the_decoder_reads_the_blocks_as_the_document_does() -> None:
    for stream, meaning in EXAMPLES:
        decoder = FrameDecoder()
        decoder.feed(stream)
        decoder.feed_eof()
        for wanted in meaning:
            if wanted[0] not in frames.KINDS:
                continue
            found = decoder.next_frame()
            built = msgspec.to_builtins(found, enc_hook=encode_hook, builtin_types=(bytes,))
            assert plain(built) == wanted[: len(built)]
        assert decoder.next_frame() is END_OF_STREAM


def test_the_worked_session_keeps_all_rules() -> None:
    text = section("A session")
    stream = b"".join(
        bytes.fromhex(found) for found in re.findall(r"```hex\n(.*?)```", text, re.DOTALL)
    )
    lines = re.search(r"\n\n```\n(.*?)```", text, re.DOTALL)
    assert lines is not None
    asked = parent.asked_by(lines[1].encode())
    session = parent.read_stream(stream, ordered=True, asked=asked)
    assert session.answers[1].is_verified
    assert session.answers[4].code == "not-found"


def test_the_error_codes_are_those_of_the_errors() -> None:
    rows = table(section("6. Errors"), "code")
    written = {bare(code): retryable == "true" for code, retryable, _ in rows}
    in_code = {leaf.code: leaf.retryable for leaf in LEAVES if issubclass(leaf, MultiFetchError)}
    assert written == in_code
    assert len(written) == len(rows)
    assert set(written) == parent.CODES


def test_the_detail_keys_are_those_of_the_errors() -> None:
    known = MultiFetchError("", status=1, registry_code="a", retry_after=1.0, attempts=1).detail()
    mismatch = errors.SizeMismatchError(want=1, got=2).detail()
    beyond = errors.MaxSizeError(limit=1, size=2).detail()
    written = {bare(row[0]) for row in table(section("6. Errors"), "key")}
    # The speaker adds these: test_speaker
    assert written == set(known) | set(mismatch) | set(beyond) | {"bytes_sent", "object", "parent"}


def test_the_detail_keys_of_bye_are_those_of_a_report() -> None:
    written = {bare(row[0]) for row in table(section("`bye`"), "key of the detail")}
    assert written == set(Report.__struct_fields__)


@pytest.mark.parametrize("struct_", get_args(frames.Frame))
def test_the_elements_of_a_kind_are_those_of_its_struct(struct_: type[msgspec.Struct]) -> None:
    kind = str(struct_.__struct_config__.tag)
    written = [bare(row[0]) for row in table(section(f"`{kind}`"), "element")]
    assert tuple(written) == struct_.__struct_fields__


def test_every_kind_has_a_heading_and_no_other_has() -> None:
    assert set(re.findall(r"^### `(\w+)`$", TEXT, re.MULTILINE)) == frames.KINDS


LIMITS = {
    "request line, without its LF": limits.MAX_LINE_BYTES,
    "tag": limits.MAX_TAG_CHARACTERS,
    "digest": limits.MAX_DIGEST_CHARACTERS,
    "media type": limits.MAX_MEDIA_TYPE_CHARACTERS,
    "repository's name, without its host": limits.MAX_NAME_CHARACTERS,
    "registry's host, with its port": limits.MAX_HOST_CHARACTERS,
    "window, at most": limits.MAX_WINDOW,
    "window, by default": limits.DEFAULT_WINDOW,
    "jobs, at most": limits.MAX_JOBS,
    "jobs, by default": limits.DEFAULT_JOBS,
    "content of a data frame": limits.MAX_DATA_BYTES,
    "payload of any other frame": limits.MAX_FRAME_OVERHEAD_BYTES,
    "payload of any frame (`max_frame`)": limits.MAX_FRAME_BYTES,
    "JSON line, with its LF": limits.MAX_JSON_LINE_BYTES,
    "message": limits.MAX_MESSAGE_CHARACTERS,
    "ids that have begun and not ended": limits.MAX_BEGUN_IDS,
    "content of an object whose size nobody has told, by default": limits.MAX_UNTOLD_BYTES,
    "manifest": limits.MAX_MANIFEST_BYTES,
    "part of a platform": 64,
    "`size:`, the ends of `range:`, the id of `!cancel`": 18,
    "objects that one manifest names, with `children:` or `platform:`": limits.MAX_CHILDREN,
    "objects in one tree, its root among them": limits.MAX_TREE,
    "indexes that `platform:` follows, one below the other": limits.MAX_INDEX_DEPTH,
    "media type that a manifest names, with `children:` or `platform:`": (
        limits.MAX_MEDIA_TYPE_CHARACTERS
    ),
    "size that a manifest names, with `children:` or `platform:`": manifest.MAX_SIZE,
    "page of a listing, as the registry sends it": limits.MAX_PAGE_BYTES,
    "tags on one page of a listing": limits.MAX_PAGE_NAMES,
    "referrers on one page of a listing": limits.MAX_CHILDREN,
    "pages of one listing": limits.MAX_LISTING_PAGES,
    "time to take the last frames after a signal": int(durations.SHUTDOWN_GRACE_SECONDS),
}


def test_the_limits_are_those_of_the_code() -> None:
    rows = table(section("9. Limits"), "what")
    written = {row[0]: int(row[1].split()[0].replace(",", "")) for row in rows}
    assert written == LIMITS


@pytest.mark.parametrize(
    "line",
    [
        "latest size:{}".format,
        "latest range:{0}-{0}".format,
        "latest platform:linux/{}".format,
    ],
)
def test_what_is_limited_in_a_line_may_have_that_much_and_no_more(
    line: Callable[[str], str],
) -> None:
    most = LIMITS["part of a platform"] if "platform" in line("") else 18
    assert isinstance(parse_line(line("9" * most).encode()), Request)
    with pytest.raises(InvalidRequestError):
        parse_line(line("9" * (most + 1)).encode())


def test_every_large_number_in_the_text_is_a_limit() -> None:
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    numbers = {int(found.replace(",", "")) for found in re.findall(r"\d{1,3}(?:,\d{3})+", prose)}
    assert numbers - {100_000} <= set(LIMITS.values())


def test_the_example_lines_are_what_the_table_says() -> None:
    rows = table(section("2. Requests"), "line")
    assert len(rows) >= 12
    for line, meaning in rows:
        wanted = meaning.partition(":")[0]
        assert what_it_is(line.strip()[1:-1].encode()) == wanted, line


def what_it_is(line: bytes) -> str:
    try:
        found = parse_line(line)
    except InvalidRequestError:
        return "invalid"
    match found:
        case Request(listing=None):
            return "request"
        case Request():
            return "control"
        case Control():
            return "control"
        case None:
            return "comment" if line.lstrip().startswith(b"#") else "nothing"


def test_the_hints_and_features_are_those_of_the_code() -> None:
    hints = {bare(row[0]).partition(":")[0] for row in table(section("Hints"), "hint")}
    features = {bare(row[0]) for row in table(section("Features"), "feature")}
    assert hints == set(request._HINTS)
    listings = {bare(row[0]).partition(":")[0] for row in table(section("Listings"), "hint")}
    assert listings == set(request._HINTS_OF_REFERRERS) > set(request._HINTS_OF_TAGS)
    controls = {"cancel", "tags", "referrers"}
    hinted = {f"hint:{hint}" for hint in hints | listings}
    answered = {f"answers:{how}" for how in ANSWERS if how != DATA}
    assert features == set(frames.FEATURES) == controls | hinted | answered


def test_the_listings_are_those_of_the_code() -> None:
    text = section("Listings")
    for told in (NO_DIGEST, TAGS_TYPE, REFERRERS_TYPE):
        assert f"`{told}`" in text
    for verb in request.Listing:
        assert f"`!{verb.value}" in text
        assert f'"!{verb.value}"' in TEXT


def test_each_hint_is_in_the_grammar() -> None:
    grammar = re.search(r"known-hint  = (.*?)other-hint", TEXT, re.DOTALL)
    assert grammar is not None
    assert set(re.findall(r'%s"(\w+):', grammar[1])) == set(request._HINTS)


def test_the_types_of_manifests_are_those_of_the_code() -> None:
    assert set(re.findall(r"`(application/.*?)`", section("Trees"))) == set(ACCEPTED_MANIFEST_TYPES)


def test_the_synonyms_of_platforms_are_those_of_the_code() -> None:
    found = re.findall(r"`([\w-]+)`(?: and `([\w-]+)`)? as `([\w/]+)`", section("Platforms"))
    synonyms = {name: canonical for *names, canonical in found for name in names if name}
    systems = {name: parse_platform(f"{name}/amd64").os for name in platform._SYSTEMS}
    architectures = {}
    for name, (architecture, variant) in platform._ARCHITECTURES.items():
        architectures[name] = "/".join(filter(None, (architecture, variant)))
    assert synonyms == systems | architectures


def test_the_lines_of_json_are_those_of_the_code() -> None:
    lines = re.search(r"```jsonl\n(.*?)```", TEXT, re.DOTALL)
    assert lines is not None
    wire = JsonLinesWire()
    for line in lines[1].splitlines():
        document = json.loads(line)
        if document["frame"] == "data":
            content = base64.b64decode(document["content"])
            (written,) = wire.data(document["id"], document["offset"], content)
        else:
            array = [document["frame"], *list(document.values())[1:]]
            frame = frames.decode(msgpack.packb(array))
            assert frame is not None
            written = wire.frame(frame)
        assert json.loads(bytes(written)) == json.loads(line)


def test_the_worked_tree_announces_each_of_its_ids() -> None:
    meaning = re.findall(r"```json\n(.*?)```", section("A tree"), re.DOTALL)
    *listing, error = (json.loads(line) for block in meaning for line in block.splitlines())
    parents = {frame[1]: frame[5] for frame in listing if frame[0] == "begin"}
    children = {frame[1]: frame[4] for frame in listing if frame[0] == "end"}
    assert parents == {1: None, -1: 1, -2: 1}
    assert children == {1: 2, -1: 0, -2: 0}
    assert error[5]["parent"] == 1


def test_the_flags_are_those_of_the_command() -> None:
    flags = set(re.findall(r"`(--[\w-]+)", TEXT))
    assert flags >= {"--window", "--ordered", "--jobs", "--timeout", "--format"}
    assert flags <= flags_of_the_command()


# What is for people, or about how a registry is reached.
OTHER_FLAGS = {
    *("--help", "--help-all", "--version", "--force", "--log-level", "--log-format"),
    *("--hosts-dir", "--ca-file", "--cert-file", "--key-file", "--insecure", "--plain-http"),
    "--allow-private",
}


def test_the_flags_to_start_with_have_the_defaults_of_the_command() -> None:
    rows = {
        bare(flag): bare(default)
        for flag, _, default in table(section("Starting the worker"), "flag")
    }
    assert rows.keys() | OTHER_FLAGS == flags_of_the_command()
    for flag, default in rows.items():
        if re.fullmatch(r"\w+", default):
            assert make_parser().parse_args(["x", flag, default]) == make_parser().parse_args(["x"])


def flags_of_the_command() -> set[str]:
    return {flag for action in make_parser().flags() for flag in action.option_strings} - {"-h"}


def test_the_exit_statuses_are_those_of_the_command() -> None:
    rows = table(section("7. The end, and exit statuses"), "exit status")
    *plain, (form, meaning) = rows
    assert [int(status) for status, _ in plain] == [SUCCESS, FAILURE, USAGE, UNUSABLE]
    assert form == "128+n"
    by_signal = {STDOUT_CLOSED_STATUS, *(128 + number for number in SIGNALS)}
    assert {int(found) for found in re.findall(r"\d+", meaning)} == by_signal


def test_control_characters_are_allowed_where_the_document_says() -> None:
    for code in range(0xA0):
        character = chr(code)
        if character == "\n":
            continue
        assert parse_line(f"# a{character}b".encode()) is None
        is_control = code < 0x20 or code == 0x7F
        wanted = "request" if character == "\t" or not is_control else "invalid"
        assert what_it_is(f"latest a:{character} b:".encode()) == wanted, code


@pytest.mark.parametrize("hint", ["platform:x", "range:x", "children:x", "digest:x", "deadline:x"])
def test_a_hint_that_does_not_count_must_be_readable_too(hint: str) -> None:
    good = {"platform": "linux/amd64", "range": "0-", "children": "all", "deadline": "1s"}
    good["digest"] = f"sha256:{'0' * 64}"
    kind = hint.removesuffix("x")
    assert what_it_is(f"latest {kind}{good[kind[:-1]]}".encode()) == "request"
    assert what_it_is(f"latest {hint} {kind}{good[kind[:-1]]}".encode()) == "invalid"


def test_the_version_is_that_of_the_code() -> None:
    assert TEXT.startswith(f"# The multi-fetch protocol, version {frames.PROTOCOL_VERSION}\n")


def test_the_links_within_the_document_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#(.*?)\)", TEXT)) <= anchors
    for path, anchor in re.findall(r"\]\(([^#)]+)(?:#([^)]*))?\)", TEXT):
        other = (ROOT / path).read_text("utf-8")
        assert not anchor or f"\n## {anchor.capitalize()}\n" in other, (path, anchor)
