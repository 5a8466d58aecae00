"""Every message of failure says what to do next."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(__file__).parent.parent / "src" / "multi_fetch"
ROOMS: Final = ("cli", "layout", "oci", "protocol", "registry", "store", "worker")

LEAVES: Final = {name for name, each in vars(errors).items() if isinstance(each, type)}
# What is wrong about an argument is told with the way to --help, by the parser.
SAYERS: Final = LEAVES | {"complain"}

# What tells somebody to do something; a constant or a function may do so as well.
STEPS: Final = re.compile(
    r"(?i)(?<![a-z])(add|append|ask|check|choose|copy|decompress|fetch|give|go|install|leave|let|log|"
    r"make|mend|name|open|pack|pin|push|raise|remove|report|run|see|set|tell|try|type|unpack|use|wait|"
    r"write|with_advice|about_file|advice|push_again|copy_again|try_later|tell_operator|form|"
    # what there is instead; what allows it; where it belongs; what is taken
    r"there are|it has|allows|belong|takes)(?![a-z])"
)

# Messages that need no next step, or get it elsewhere; each with the reason.
EXCEPTIONS: Final = {
    "cli/checkup": "doctor has its advice on a line of its own",
    "protocol/frames.py": "a peer's bug: unpack and the client say what to check",
    "protocol/framing.py": "the same",
    "protocol/lives.py": "the same",
    "protocol/wire.py": "a bug of ours, which the worker asks to report",
    "worker/lines.py:{len(content)} bytes": "a bug of ours, which the worker asks to report",
    "worker/serve.py:cancelled on line": "it was asked for",
    "worker/serve.py:the worker was ended by": "the same",
    "cli/fetch_object.py:ended by": "the same",
    "cli/unpack_session.py": "unpack says what to check, behind all of them",
}


def text_of(node: ast.expr) -> str:
    """A message as far as it is written down: what is put into it stands in braces."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(text_of, parts))
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
    return ""


def messages() -> Iterator[tuple[str, str]]:
    """Where each message stands, and its text."""
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = path.relative_to(PACKAGE).as_posix()
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and node.args and sayer(node.func) in SAYERS:
                    text = text_of(node.args[-1 if sayer(node.func) == "complain" else 0])
                    if re.search(r"[a-z]{3,} [a-z{]", re.sub(r"\{[^}]*\}", "{}", text)):
                        yield f"{name}:{node.lineno}", text


def sayer(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def is_excepted(where: str, text: str) -> bool:
    return f"{where.partition(':')[0]}:{text}".startswith(tuple(EXCEPTIONS))


def test_no_message_leaves_its_reader_alone() -> None:
    found = dict(messages())
    assert len(found) > 150
    alone = [
        f"{where}: {text}"
        for where, text in found.items()
        if not STEPS.search(text) and not is_excepted(where, text)
    ]
    assert alone == [], "\n".join(["", *alone])


def test_an_exception_is_still_one() -> None:
    for name in EXCEPTIONS:
        there = (f"{where.partition(':')[0]}:{text}" for where, text in messages())
        assert any(each.startswith(name) for each in there), name


@pytest.mark.parametrize("leaf", [errors.SizeMismatchError(want=1, got=2)])
def test_a_message_that_an_error_makes_by_itself_does_so_too(leaf: errors.MultiFetchError) -> None:
    assert STEPS.search(leaf.message)
