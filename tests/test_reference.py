"""The docs say what the code has: flags, variables, hints, exit statuses, numbers, and claims."""

from __future__ import annotations

import ast
import re

import pytest

from multi_fetch import durations, limits
from multi_fetch.cli import arguments, credentials, hosts, store
from multi_fetch.protocol.frames import FEATURES
from multi_fetch.registry import credential_places
from multi_fetch.registry.hosts import default_host
from multi_fetch.registry.hosts_file import parse_hosts
from tests.documents import ROOT, blocks, parser_of

DOCS = ROOT / "docs"
TEXT = (DOCS / "reference.md").read_text("utf-8")
REGISTRIES = (DOCS / "registries.md").read_text("utf-8")
PEERS = (DOCS / "peers.md").read_text("utf-8")


def table(head: str) -> list[list[str]]:
    """The rows of the table whose first line begins with ``head``."""
    _, found, rest = TEXT.partition(f"\n| {head} |")
    assert found, head
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_hosts_file_is_understood() -> None:
    (text,) = (block.text for block in blocks(REGISTRIES) if block.language == "toml")
    own = default_host("docker.io")
    mirror, last = parse_hosts(text.encode(), "/hosts.toml", "docker.io", own)
    assert (mirror.url, mirror.may_resolve) == ("https://mirror.example", False)
    assert mirror.tls.ca_files == ("/mirror.pem",)
    assert last == own


def flags_of(command: str) -> set[str]:
    strings = {flag for action in parser_of(command).flags() for flag in action.option_strings}
    return {flag for flag in strings if flag.startswith("--")}


def test_the_flags_are_those_of_the_two_commands() -> None:
    rows = table("flag")
    written = {flag for row in rows for flag in re.findall(r"--[a-z-]+", row[0])}

    def of_alone(command: str) -> set[str]:
        alone = (row[0] for row in rows if f"(`{command}`" in row[1])
        return {flag for flags in alone for flag in re.findall(r"--[a-z-]+", flags)}

    assert written == flags_of("multi-fetch") | flags_of("fetch-object")
    assert of_alone("multi-fetch") == flags_of("multi-fetch") - flags_of("fetch-object")
    assert of_alone("fetch-object") == flags_of("fetch-object") - flags_of("multi-fetch")


def test_the_defaults_are_those_of_the_worker() -> None:
    parser = parser_of("multi-fetch")
    for row in table("flag"):
        if found := re.search(r"default `?(\w+)", row[1]):
            flag = re.findall(r"--[a-z-]+", row[0])[0]
            assert str(parser.get_default(flag[2:].replace("-", "_"))) == found[1], flag


def test_the_variables_are_those_that_are_read() -> None:
    written = {name for row in table("variable") for name in re.findall(r"[A-Z_]{2,}", row[0])}
    named = (
        vars(arguments) | vars(credentials) | vars(credential_places) | vars(hosts) | vars(store)
    )
    read = {str(value) for name, value in named.items() if name.endswith("_VARIABLE")}
    assert written == read


def test_the_hints_are_those_that_hello_names() -> None:
    written = {row[0].strip("`").partition(":")[0] for row in table("hint")}
    assert {f"hint:{name}" for name in written} == {
        name for name in FEATURES if name.startswith("hint:")
    }


def test_the_exit_statuses_are_those_of_the_protocol() -> None:
    protocol = (ROOT / "protocol.md").read_text("utf-8")
    _, _, rest = protocol.partition("| exit status |")
    promised = re.findall(r"^\| (\S+) \|", rest.partition("\n\n")[0], re.MULTILINE)
    assert {row[0] for row in table("exit status")} == set(promised) - {"---"}


def test_what_is_claimed_of_this_project_is_shown_by_a_test() -> None:
    rows = [row for row in PEERS.splitlines() if row.startswith("| ")]
    peers = rows[next(i for i, row in enumerate(rows) if row.startswith("| | multi-fetch")) + 1 :]
    claims = 0
    for row in peers:
        cell = row.split(" | ")[1]
        found = re.fullmatch(r'\[(?:yes|partly)\]\(\.\./(\S+\.py) "(\w+)"\)', cell)
        if found is None:
            assert cell == "no", row
            continue
        claims += 1
        tree = ast.parse((ROOT / found[1]).read_text("utf-8"))
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert found[2] in {each.name for each in tree.body if isinstance(each, functions)}, row
    assert claims >= 10


# --- numbers in sentences ---------------------------------------------------------------------

KIB, MIB, GIB = 1024, 1024**2, 1024**3
DATA_KIB = limits.MAX_DATA_BYTES // KIB
UNTOLD_GIB = limits.MAX_UNTOLD_BYTES // GIB
SPLIT_MIB = limits.SPLIT_BYTES // MIB
CERTIFICATES = [
    number // MIB for number in (limits.MAX_CERTIFICATES_BYTES, limits.MAX_ALL_CERTIFICATES_BYTES)
]
PIECES = [number // MIB for number in (limits.MIN_PIECE_BYTES, limits.MAX_PIECE_BYTES)]
DEAD, SILENT, RESTS = (
    f"{seconds:g}"
    for seconds in (
        durations.MIRROR_CONNECT_TIMEOUT_SECONDS,
        durations.MIRROR_STALL_SECONDS,
        durations.MIRROR_REST_SECONDS,
    )
)
COUNTS = {2: "two", 5: "five"}

HANDSHAKES = [
    number // KIB
    for number in (limits.MAX_HANDSHAKE_BYTES, limits.HANDSHAKE_MEMORY // limits.MAX_JOBS)
]

SAID = {
    "docs/reference.md": [
        f"default {limits.DEFAULT_JOBS}, {limits.MAX_JOBS} at most",
        f"{UNTOLD_GIB} GiB where nobody has told the size",
        "files of up to {} MiB; those of all hosts together have up to {} |".format(*CERTIFICATES),
        f"Retry-After included: {durations.DEFAULT_RETRY_WAIT_SECONDS:g}s;",
        f"gives less than {limits.LEAST_PROGRESS_BYTES // KIB} KiB while",
        f"counts as broken: {durations.READ_TIMEOUT_SECONDS:g}s;",
        f"`largest` has up to {limits.MAX_TOLD_RUNNING} objects",
    ],
    "docs/registries.md": [
        f"left after {DEAD} seconds, one that says nothing after {SILENT},",
        f"both are left alone for {RESTS};",
        f"one that fails {COUNTS[limits.MAX_MIRROR_FAILURES]} times in a row",
        f"what fits one data frame ({DATA_KIB} KiB)",
        f"a blob of {limits.LEAST_SPLIT_BYTES // MIB} MiB or more",
        f"Of {COUNTS[limits.MAX_SPLIT_BLOBS]} blobs at the same time",
        f"within {SPLIT_MIB} MiB of memory for all parts",
    ],
    "docs/stores.md": [f"names more than {limits.MAX_CHILDREN:,} objects"],
    "docs/decisions/0001-verified-before-written.md": [
        f"at most {DATA_KIB} KiB (`MAX_DATA_BYTES`)",
        f"one budget (`budget.py`, {limits.MAX_HELD_BYTES // MIB} MiB)",
    ],
    "docs/decisions/0010-again-and-onward.md": [
        f"`--retries` ({limits.DEFAULT_RETRIES}) times in a row",
        f"a token's answer within {durations.TOKEN_BODY_SECONDS:g} s",
        f"an error's body within {durations.ERROR_BODY_SECONDS:g} s",
        f"ends at {UNTOLD_GIB} GiB",
    ],
    "docs/decisions/0012-a-layout-is-a-remote.md": [
        f"in threads, {limits.MAX_READ_THREADS} at most",
        f"more than {limits.MAX_LAYOUT_INDEX_MEMORY // MIB} MiB in memory",
        f"it may take {limits.MAX_LAYOUT_KEPT_MEMORY // MIB} MiB",
    ],
    "docs/decisions/0013-hosts-and-mirrors.md": [
        f"larger than {limits.MAX_EMBEDDED_BYTES // KIB} KiB",
        f"beyond {limits.MAX_TREE_EMBEDDED_BYTES // MIB} MiB below one request",
        f"no retry, {DEAD} s for a connection (`dial_timeout` says otherwise), {SILENT} s of",
    ],
    "docs/decisions/0016-parallel-ranges.md": [
        f"Blobs of {limits.LEAST_SPLIT_BYTES // MIB} MiB and more",
        f"{SPLIT_MIB} MiB together, for {COUNTS[limits.MAX_SPLIT_BLOBS]} blobs at a time",
        "pieces have {} to {} MiB".format(*PIECES),
    ],
    "docs/decisions/0022-how-many-jobs.md": [
        f"`--jobs` is {limits.MAX_JOBS} at most",
        f"together may have {limits.HANDSHAKE_MEMORY // MIB} MiB",
        "one of them {} KiB: {} KiB with".format(*HANDSHAKES),
        f"or two for each job up to {limits.TWOFOLD_IDLE_CONNECTIONS}",
    ],
    "CHANGELOG.md": [
        f"`--jobs` ({limits.MAX_JOBS} at most)",
        f"whose size nobody has told ends at {UNTOLD_GIB} GiB",
        f"strictly checked, within {SPLIT_MIB} MiB of memory",
    ],
    "protocol.md": [
        f"MAY be given up to {limits.MAX_MEDIA_TYPES} times",
        f"is sent again, 0 to {limits.MAX_RETRIES}",
        f"may come, 1 to {limits.MAX_RANGES};",
        f"(1 to {limits.MAX_JOBS}, by default {limits.DEFAULT_JOBS})",
        f"1 to {limits.MAX_WINDOW:,}, by default {limits.DEFAULT_WINDOW:,}",
        f"Up to {limits.MAX_INDEX_DEPTH} indexes are followed",
        f"At most {limits.MAX_FOREIGN_URLS} URLs of an object are tried",
        f"gets {durations.SHUTDOWN_GRACE_SECONDS:g} seconds to take these frames",
        f"brought less than {limits.LEAST_PROGRESS_BYTES:,} bytes of a body",
    ],
}


@pytest.mark.parametrize("document", SAID)
def test_numbers_in_sentences_are_those_of_the_code(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    assert [said for said in SAID[document] if said not in text] == []
