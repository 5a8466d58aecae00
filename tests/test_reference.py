"""The tables of docs are those of the code: flags, variables, hints, exit statuses, and claims."""

from __future__ import annotations

import ast
import re

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
