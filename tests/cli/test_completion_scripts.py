"""Each script, in the shell that it is for; a shell that is not on this machine is skipped."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli import completion_scripts
from multi_fetch.cli.commands import COMMANDS
from multi_fetch.cli.completion import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCRIPTS: dict[str, Callable[..., str]] = {
    "bash": completion_scripts.bash,
    "zsh": completion_scripts.zsh,
    "fish": completion_scripts.fish,
}

# A line as it is typed, and what must and must not be offered for its last word.
LINES = [
    ("multi-fetch --fo", {"--format", "--force"}, {"--jobs"}),
    ("multi-fetch --format ", {"msgpack", "jsonl"}, {"--jobs"}),
    ("multi-fetch --jobs 4 --ord", {"--ordered"}, {"--format"}),
    ("multi-fetch ", {"completion", "oci:", "oci-archive:"}, {"bash"}),
    ("multi-fetch comp", {"completion"}, {"oci:"}),
    ("multi-fetch completion ", {"bash", "zsh", "fish"}, {"oci:"}),
    ("multi-fetch completion --h", {"--help", "--help-all"}, {"--hosts-dir"}),
    ("multi-fetch-unpack --by ", {"digest", "id", "tag"}, set()),
    ("multi-fetch-unpack --into im", {"images/"}, {"image.tar"}),
    ("fetch-object --authfile im", {"images/", "image.tar"}, set()),
    ("fetch-object oci", {"oci:", "oci-archive:"}, {"completion"}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "image.tar").touch()
    return tmp_path


@pytest.fixture
def script(folder: Path, request: pytest.FixtureRequest) -> Path:
    """The script of ``request.param``, which is a shell."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    path = folder / f".{request.param}"
    path.write_text(SCRIPTS[request.param]([describe(name) for name in COMMANDS]))
    return path


def in_shell(shell: str, code: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [shell, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def bash_offers(script: Path, words: list[str]) -> set[str]:
    """What bash's function leaves in COMPREPLY, once bash has split the line into words."""
    quoted = " ".join(f"'{word}'" for word in words)
    name = words[0].replace("-", "_")
    code = (
        f"set -eu; source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};"
        f' _{name} || true; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    return set(in_shell("bash", code, script.parent))


@pytest.mark.parametrize("script", ["bash"], indirect=True)
@pytest.mark.parametrize(("line", "offered", "others"), LINES)
def test_bash_completes_it(script: Path, line: str, offered: set[str], others: set[str]) -> None:
    got = bash_offers(script, line.split(" "))
    assert {name.rstrip("/") for name in offered} <= got
    assert not others & got


@pytest.mark.parametrize("script", ["bash"], indirect=True)
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["multi-fetch", "--format", "=", "js"], {"jsonl"}),
        (["multi-fetch", "--format", "="], {"jsonl", "msgpack"}),
        (["multi-fetch", "oci", ":"], {"images"}),
        (["multi-fetch", "oci", ":", "im"], {"images"}),
        (["fetch-object", "oci-archive", ":", "image."], {"image.tar"}),
    ],
)
def test_bash_completes_what_it_takes_for_several_words(
    script: Path, words: list[str], offered: set[str]
) -> None:
    assert bash_offers(script, words) == offered


@pytest.mark.parametrize("script", ["fish"], indirect=True)
@pytest.mark.parametrize(
    ("line", "offered", "others"),
    [*LINES, ("multi-fetch oci:im", {"oci:images/"}, {"oci:image.tar"})],
)
def test_fish_completes_it(script: Path, line: str, offered: set[str], others: set[str]) -> None:
    lines = in_shell("fish", f"source {script}; complete -C '{line}'", script.parent)
    got = {each.partition("\t")[0] for each in lines}
    assert offered <= got
    assert not others & got


# What zsh asks the terminal for once its line editor reads the keys.
BRACKETED_PASTE = "\x1b[?2004h"


class Terminal:
    """A zsh that somebody types into."""

    def __init__(self, script: Path) -> None:
        self._seen = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:  # pragma: no cover - another process
            os.chdir(script.parent)
            os.environ.update(TERM="dumb", PS1="> ", HOME=str(script.parent), COLUMNS="200")
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self.type(f"autoload -Uz compinit && compinit -u -D && source {script} && print re''ady\n")
        self.read_until("ready\r")
        self.read_until(BRACKETED_PASTE)  # what is typed earlier, the terminal's driver takes

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read_until(self, mark: str, seconds: float = 20) -> str:
        """What the terminal shows up to the mark, since the last."""
        end = time.monotonic() + seconds
        while mark not in self._seen:
            ready, _, _ = select.select([self._fd], [], [], max(0, end - time.monotonic()))
            assert ready, f"{mark!r} did not come: {self._seen!r}"
            self._seen += os.read(self._fd, 4096).decode("utf-8", "replace")
        before, _, self._seen = self._seen.partition(mark)
        return before + mark

    def close(self) -> None:
        os.close(self._fd)
        os.waitpid(self._pid, 0)


@pytest.fixture
def terminal(script: Path) -> Iterator[Terminal]:
    there = Terminal(script)
    yield there
    there.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a terminal as Linux has it")
@pytest.mark.parametrize("script", ["zsh"], indirect=True)
@pytest.mark.parametrize(("line", "offered", "others"), LINES)
def test_zsh_completes_it(
    terminal: Terminal, line: str, offered: set[str], others: set[str]
) -> None:
    """``^D`` behind a word lists what may follow, and leaves the line as it is."""
    terminal.type(f"{line}\x04")
    terminal.read_until(line)
    told = set(terminal.read_until(line).split())
    assert offered <= told
    assert not others & told
