"""The rules of the house that no linter holds; those that one does are in pyproject.toml.

A rule that fails here is mended where it is broken. An exception is written beside its rule, with
its reason, and an exception that is needed no more fails too.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "src" / "multi_fetch"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
# Other languages' packages may bring Python along.
OURS: Final = [
    path
    for folder in ("src", "bench", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "node_modules" not in path.parts
]
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))

MAX_MODULE_LINES: Final = 350
MAX_FUNCTION_LINES: Final = 40

# From the style in CONTRIBUTING.md, in lower case: words that say nothing.
EMPTY_WORDS: Final = frozenset(
    {"manager", "handler", "helper", "processor", "util", "common", "misc", "item", "info"}
)

TOP_LEVEL: Final = frozenset(
    {
        ".ci",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "bench",
        "docs",
        "examples",
        "protocol.md",
        "pyproject.toml",
        "src",
        "tests",
    }
)

READERS: Final = {
    "registry/credential_places.py": "who calls Keychain.load() without paths asks for just that",
}

UNTESTED: Final = {
    "limits.py": "it has numbers alone; test_protocol_md compares them with the protocol's",
    "durations.py": "it has numbers alone",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def project_files() -> list[Path]:
    """What is committed, or would be."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("without git and a checkout nobody knows what belongs to the project")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def expect_none(found: Iterable[str]) -> None:
    """Fails with all that was found, a line each."""
    told = "\n".join(sorted(found))
    assert not told, f"\n{told}"


# --- modules and their tests ------------------------------------------------------------------


def test_every_module_has_a_test_of_its_name() -> None:
    """So that one knows where to look; a package and its entry point may have one too."""
    expect_none(
        f"{name_of(path)} has no {name_of(path_of_test(path))}"
        for path in MODULES
        if path.name not in {"__init__.py", "__main__.py"}
        and path.relative_to(PACKAGE).as_posix() not in UNTESTED
        and not path_of_test(path).exists()
    )


def path_of_test(path: Path) -> Path:
    return ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")


def test_a_module_without_a_test_still_has_none() -> None:
    for name in UNTESTED:
        assert (PACKAGE / name).exists()
        assert not path_of_test(PACKAGE / name).exists()


def test_every_module_and_no_other_is_in_the_floor_plan() -> None:
    """A new room, or a new name for one, changes the picture in CONTRIBUTING.md."""
    there = {path.relative_to(PACKAGE).as_posix() for path in MODULES if drawn(path)}
    plan = list(planned())
    expect_none(f"draw {name}" for name in there - set(plan))
    expect_none(f"{name} is drawn, and not there" for name in set(plan) - there)
    assert len(plan) == len(set(plan))


def drawn(path: Path) -> bool:
    """Rooms are drawn as folders, so their ``__init__.py`` is not drawn again."""
    return path.name != "__init__.py" or path.parent == PACKAGE


def planned() -> Iterator[str]:
    """The modules of the floor plan; a room is indented by 2, and what is in it by 4."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    _, _, plan = text.partition("```\nsrc/multi_fetch/\n")
    room = ""
    for line in plan.partition("\ntests/")[0].splitlines():
        found = re.match(r"( {2}| {4})(\w+(?:/|\.py))(?: |$)", line)
        if found is None:
            continue
        indent, name = found.groups()
        if name.endswith("/"):
            room = name
        else:
            yield name if len(indent) == 2 else room + name


# --- sizes and names --------------------------------------------------------------------------


def test_a_module_is_read_in_one_sitting() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in OURS}
    expect_none(
        f"{name_of(path)} has {count} lines"
        for path, count in lines.items()
        if count > MAX_MODULE_LINES
    )


def test_a_function_fits_a_screen() -> None:
    expect_none(
        f"{name_of(path)}:{node.lineno} has {count} lines"
        for path in OURS
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (count := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    )


def words(name: str) -> set[str]:
    """A name's words in lower case, in singular: ``HTTPHandlers`` is http and handler."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {word.lower().removesuffix("s") for word in found}


def test_the_names_of_modules_and_classes_say_something() -> None:
    expect_none(
        f"{name_of(path)}: {name}"
        for path in [*OURS, *TESTS]
        for name in (path.stem, path.parent.name, *classes_of(path))
        if words(name) & EMPTY_WORDS
    )


def classes_of(path: Path) -> list[str]:
    return [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]


# --- errors, the environment, the network -----------------------------------------------------


def test_nothing_is_caught_that_is_not_known() -> None:
    """No bare except and no ``except Exception``, but for the worker's last words before a bug.

    ``except BaseException`` may tidy up, if it then raises what it caught.
    """
    expect_none(
        f"{name_of(path)}:{clause.lineno}"
        for path in [*OURS, *TESTS]
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.Try, ast.TryStar))
        for clause in node.handlers
        if is_broad(clause) and not is_last_words(path, node, clause)
    )


def is_broad(clause: ast.ExceptHandler) -> bool:
    if clause.type is None:
        return True
    caught = {each.id for each in ast.walk(clause.type) if isinstance(each, ast.Name)}
    last = clause.body[-1]
    is_raised_again = isinstance(last, ast.Raise) and last.exc is None
    return "Exception" in caught or ("BaseException" in caught and not is_raised_again)


def is_last_words(path: Path, node: ast.AST, clause: ast.ExceptHandler) -> bool:
    line = path.read_text("utf-8").splitlines()[clause.lineno - 1]
    return (
        path == PACKAGE / "worker" / "serve.py"
        and isinstance(node, ast.TryStar)
        and re.search(r"# noqa: BLE001 - \w", line) is not None
    )


def imported(path: Path) -> set[str]:
    """What a module imports, with the names it takes: ``os``, ``os.environ``."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def outside(room: str) -> list[Path]:
    return [path for path in MODULES if not path.is_relative_to(PACKAGE / room)]


def test_only_the_command_lines_read_the_environment() -> None:
    readers = {"environ", "environb", "getenv", "getenvb"}
    expect_none(
        f"{name_of(path)}: {name}"
        for path in outside("cli")
        if path.relative_to(PACKAGE).as_posix() not in READERS
        for name in attributes_of(path) | {each.removeprefix("os.") for each in imported(path)}
        if name in readers
    )


def attributes_of(path: Path) -> set[str]:
    return {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}


def test_only_the_registry_room_knows_httpx() -> None:
    expect_none(
        f"{name_of(path)}: {name}"
        for path in outside("registry")
        for name in imported(path)
        if name.partition(".")[0] in {"httpx", "httpcore"}
    )


def test_a_module_that_may_read_the_environment_still_does() -> None:
    for name in READERS:
        assert "environ" in attributes_of(PACKAGE / name)


LIMIT: Final = re.compile(r"[A-Z_]+\b.* = ")


@pytest.mark.parametrize("module", ["limits.py", "durations.py"])
def test_every_limit_has_its_reason_beside_it(module: str) -> None:
    """A comment at the end of its line, or above it and its neighbours."""
    lines = (PACKAGE / module).read_text("utf-8").splitlines()
    limits = [number for number, line in enumerate(lines) if LIMIT.match(line)]
    assert len(limits) > 20
    expect_none(lines[number] for number in limits if not has_reason(lines, number))


def has_reason(lines: list[str], number: int) -> bool:
    if re.search(r" # \w", lines[number]):
        return True
    while LIMIT.match(lines[number]):
        number -= 1
    return re.match(r"# \w", lines[number]) is not None


# --- the documents ----------------------------------------------------------------------------


def test_every_dependency_has_its_reason() -> None:
    """In the tables of CONTRIBUTING.md, and no other package is there."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = pyproject["project"]
    wanted = [*project["dependencies"], *pyproject["build-system"]["requires"]]
    wanted += [each for extra in project["optional-dependencies"].values() for each in extra]
    wanted += [each for group in pyproject["dependency-groups"].values() for each in group]
    names = {re.split(r"[\[<>=!~; ]", each)[0] for each in wanted}
    _, _, text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Dependencies\n")
    reasons = dict(re.findall(r"^\| `([\w-]+)` \| (.{10,}) \|$", text, re.MULTILINE))
    expect_none(f"{name} has no reason" for name in names - set(reasons))
    expect_none(f"{name} is no dependency" for name in set(reasons) - names)


def test_the_changelog_has_this_version_on_top() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = re.search(r"^## \[(.+?)\] - (Unreleased|\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert found is not None
    assert found[1] == __version__


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    listed = re.findall(
        r"^- \[\d+\]\((.+?)\)", (folder / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert listed == [page.name for page in pages]
    for page in pages:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {page.name[:4]}: ")
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequence"], page.name


def test_every_relative_link_leads_somewhere() -> None:
    expect_none(
        f"{name_of(path)}: {target}"
        for path in project_files()
        if path.suffix == ".md"
        for target in links_in(path.read_text("utf-8"))
        if not (path.parent / target).exists()
    )


def links_in(text: str) -> list[str]:
    """Relative links, without their anchors, outside of fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\((?!\w+:|#)([^)\s#]+)", prose)


# --- what does not belong into a project ------------------------------------------------------

# Written so that they do not match themselves.
SOMEBODYS_FOLDER: Final = re.compile(r"(?<![\w.:/~-])/(?:home|root|Users|work|workspace)/\w")
PACKAGE_INDEX: Final = re.compile(
    r"[p]ypi\.org|[p]ythonhosted\.org|(?<!no-emit)[-]index-url|find[-]links"
)


def test_no_file_names_somebodys_folder_or_a_package_index() -> None:
    """The project is built from whatever index its user has, wherever it is kept."""
    expect_none(
        f"{name_of(path)}: {found[0]}"
        for path in project_files()
        for pattern in (SOMEBODYS_FOLDER, PACKAGE_INDEX)
        for found in pattern.finditer(path.read_bytes().decode("utf-8", "replace"))
    )


def test_the_top_level_has_its_files_and_no_others() -> None:
    """What an experiment leaves there would be committed with the next change."""
    tops = {path.relative_to(ROOT).parts[0] for path in project_files()}
    assert tops - TOP_LEVEL == set()
