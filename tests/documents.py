"""Documents as they are read: their blocks, and a reader who types them in.

Fenced blocks, in a folder that has ``examples`` in it, where 5001 and 5003 are free ports:

- ``sh`` and ``bash`` are run by bash; one that ends with ``&`` is a server, until the end
- ``python``, ``js`` and ``go`` are run as scripts
- one of these, ``toml`` and ``ini`` whose first line is a comment with a path is saved there, and
  not run
- ``text`` is what the block before it printed; ``...`` in it stands for anything in a line
- ``console`` is not run (it needs a network, or these tests themselves)

A block that needs a program that is not on this machine is left out, and said. 127.0.0.1:5002 is a
docker-registry that wants the login of READER, with examples/layout as ``demo/app``.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from multi_fetch.cli.help import CommandParser
from tests.integration.docker_registry import COMMAND, READER, docker_registry, is_installed
from tests.integration.push import push_layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

COMMANDS: Final = {"multi-fetch": "multi_fetch", "fetch-object": "fetch_object"}
ROOT: Final = Path(__file__).parent.parent
OPEN_PORTS: Final = ("5001", "5003")
LOGIN_PORT: Final = "5002"
RUN: Final = frozenset({"sh", "bash", "python", "js", "go"})
LANGUAGES: Final = RUN | {"text", "console", "toml", "ini"}

# What is not on every machine; a block that has one of them where a command stands needs it.
PROGRAMS: Final = ("skopeo", "jq", "systemd-analyze", "systemd-socket-activate", "curl")
_commands = re.compile(
    r"(?:^|[|(&;!] ?|\b(?:then|do|xargs|env) )\s*(?P<name>" + "|".join(PROGRAMS) + r")\b",
    re.MULTILINE,
)
_saved = re.compile(r"(?:#|//) (?P<path>[\w@./:-]+\.\w+)\n")
# Names that a user may have set, and that would change what is printed.
_SETTINGS: Final = ("MULTI_FETCH_", "CONTAINERD_", "XDG_", "DOCKER_", "REGISTRY_")
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


class Block(NamedTuple):
    """A fenced block; ``line`` is where it begins in its document."""

    line: int
    language: str
    text: str


class MissingError(Exception):
    """A block needs what is not on this machine; the message says what."""


def blocks(text: str) -> list[Block]:
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(text.count("\n", 0, each.start()) + 1, each[1], each[2]) for each in found]


def sections(text: str) -> dict[str, list[Block]]:
    """The blocks under each heading of the second level, behind those above the first heading.

    A heading without any is left out.
    """
    headings = list(re.finditer(r"^## (.+)$", text, re.MULTILINE))
    starts = [text.count("\n", 0, each.start()) + 1 for each in headings]
    found = blocks(text)
    first = [each for each in found if not starts or each.line < starts[0]]
    own = {
        heading[1]: [each for each in found if start < each.line < end]
        for heading, start, end in zip(headings, starts, [*starts, sys.maxsize][1:], strict=True)
    }
    return {heading: first + each for heading, each in own.items() if each}


class Reader:
    """A reader who types in what a document says, in a folder of their own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._ports: dict[str, str] = {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        go_cache = os.environ.get("GOCACHE", str(Path.home() / ".cache" / "go-build"))
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_SETTINGS) and name.lower() not in _PROXIES
        } | {"PATH": path, "HOME": str(folder), "LC_ALL": "C.UTF-8", "GOCACHE": go_cache}
        (folder / "examples").symlink_to(ROOT / "examples")

    def read(self, found: Sequence[Block]) -> tuple[int, list[str]]:
        """Does what the blocks say.

        Returns:
            How many times it was compared what was printed; and what was left out, and why.

        Raises:
            AssertionError: a block fails, or prints something else than is shown.
        """
        printed: str | None = ""
        shown = 0
        left_out: list[str] = []
        for block in found:
            if block.language == "text":
                if printed is not None:
                    shown += 1
                    compare(block, printed)
                continue
            try:
                printed = self.type_in(block)
            except MissingError as error:
                left_out.append(f"line {block.line}: {error}")
                printed = None
        return shown, left_out

    def type_in(self, block: Block) -> str:
        """Runs a block, or saves it; gives what it printed.

        Raises:
            MissingError: it needs what is not here.
        """
        text = self._with_ports(block.text)
        if block.language == "console":
            return ""
        if name := _saved.match(text):
            path = self._folder / name["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return ""
        assert block.language in RUN, f"line {block.line}: nothing says where this is saved"
        if block.language in {"sh", "bash"}:
            for found in _commands.finditer(text):
                require(found["name"])
            if text.rstrip().endswith("&"):
                return self._start(text.rstrip().removesuffix("&"))
            return self._run(block, "bash", "-euo", "pipefail", "-c", text)
        return self._run(block, *self._script(block.language, text))

    def _script(self, language: str, text: str) -> list[str]:
        if language == "python":
            return [sys.executable, "-W", "error", "-c", text]
        if language == "js":
            return [require("node"), "--input-type=module", "--eval", text]
        (self._folder / "main.go").write_text(text)
        return [require("go"), "run", "main.go"]

    def _with_ports(self, text: str) -> str:
        for port in (*OPEN_PORTS, LOGIN_PORT):
            if port not in self._ports and re.search(rf"\b{port}\b", text):
                self._ports[port] = self._registry() if port == LOGIN_PORT else free_port()
        for port, mine in self._ports.items():
            text = re.sub(rf"\b{port}\b", mine, text)
        return text

    def _registry(self) -> str:
        """Starts the registry that wants a login; gives its port."""
        if not is_installed():
            raise MissingError(f"{COMMAND} is not installed")
        folder = self._folder / ".registry"
        folder.mkdir()
        running = self._stack.enter_context(docker_registry(folder, account=READER))
        push_layout(running, ROOT / "examples" / "layout", "demo/app")
        return running.address.rpartition(":")[2]

    def _as_written(self, printed: str) -> str:
        for port, mine in self._ports.items():
            printed = re.sub(rf"\b{mine}\b", port, printed)
        return printed

    def _run(self, block: Block, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"line {block.line}:\n{done.stdout}{done.stderr}"
        return self._as_written(done.stdout)

    def _start(self, command: str) -> str:
        server = self._stack.enter_context(
            subprocess.Popen(
                shlex.split(command),
                cwd=self._folder,
                env=self._environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        self._stack.callback(server.terminate)
        assert server.stdout is not None
        return self._as_written(server.stdout.readline())


def require(program: str) -> str:
    """The path of a program.

    Raises:
        MissingError: it is not on this machine.
    """
    if found := shutil.which(program):
        return found
    raise MissingError(f"{program} is not installed")


def free_port() -> str:
    """A port that nobody gets who asks for any: it is not of those that the system gives out."""
    for port in random.sample(range(10_000, 30_000), 20_000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)
    raise MissingError("no port is free")


def pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("..."))))


def compare(block: Block, printed: str) -> None:
    """Fails where something else was printed than a ``text`` block shows."""
    got = printed.splitlines()
    wanted = block.text.splitlines()
    assert len(got) == len(wanted), f"line {block.line}: {printed}"
    for one, other in zip(wanted, got, strict=True):
        assert pattern(one).fullmatch(other), f"line {block.line}:\n{one}\n{other}"


def commands(line: str) -> list[list[str]]:
    """A command line of the shell as its simple commands, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word in {"|", "||", "&&", ";"}:
            found.append([])
        elif word in {"<", ">", ">>"}:
            next(words)
        else:
            found[-1].append(word)
    return found


def parser_of(command: str) -> CommandParser:
    module = importlib.import_module(f"multi_fetch.cli.{COMMANDS[command]}")
    parser = module.make_parser()
    assert isinstance(parser, CommandParser)
    return parser
