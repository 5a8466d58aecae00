"""The worker as a process on a real docker-registry: thousands of lines, good and bad."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.integration.docker_registry import docker_registry
from tests.integration.push import LARGE_BYTES, OCI_LAYER, SMALL_BYTES
from tests.parent import Answer, Data, End, Parent, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.integration.docker_registry import DockerRegistry
    from tests.integration.push import Filled

pytestmark = pytest.mark.integration

MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))
FETCH_OBJECT: Final = str(Path(sys.executable).with_name("fetch-object"))

LINES: Final = 5_000
# Blobs of 1 MiB among them: enough to overtake and to be overtaken.
MIDDLE_LINES: Final = 10
ABSENT: Final = hashlib.sha256(b"nobody pushed this").hexdigest()

# Each bad in its own way, and the error that it gets.
BAD_LINES: Final[Mapping[bytes, str]] = {
    b"two words": "invalid-request",
    b"latest size:5k": "invalid-request",
    b"latest size:1 size:2": "invalid-request",
    b"latest :5": "invalid-request",
    b"latest mediatype:none": "invalid-request",
    b"latest content:all": "invalid-request",
    b"sha256:2cf24d": "invalid-request",
    f"sha256:{ABSENT.upper()}".encode(): "invalid-request",
    b"library/redis": "invalid-request",
    b".hidden": "invalid-request",
    b"x" * 129: "invalid-request",
    b"x" * 70_000: "invalid-request",
    b"latest\0": "invalid-request",
    b"\xff\xfe": "invalid-request",
    b"# caf\xe9, not UTF-8": "invalid-request",
    b"!stop": "invalid-request",
    b"nowhere": "not-found",
    f"sha256:{ABSENT}".encode(): "not-found",
    b"latest size:3": "size-mismatch",
    f"latest@sha256:{ABSENT} content:none".encode(): "not-found",
}


class Mixed:
    """Lines, and what must come for each, by its number.

    Attributes:
        stdin: all lines; comments and empty lines are among them.
        contents: of the good lines; None for those that ask for the descriptor alone.
        codes: of the bad ones.
    """

    def __init__(self, filled: Filled, seed: int) -> None:
        self.contents: dict[int, tuple[str, bytes | None]] = {}
        self.codes: dict[int, str] = {}
        chance = random.Random(seed)
        objects = [(tag, each.digest, each.content) for tag, each in filled.tags.items()]
        objects += [("", digest, each.content) for digest, each in filled.manifests.items()]
        objects += [("", digest, each) for digest, each in filled.blobs.items() if len(each) < 8192]
        objects.append(("", *filled.sha512))
        middle = [
            ("", digest, each) for digest, each in filled.blobs.items() if len(each) > 500_000
        ]
        chosen = chance.choices(objects, k=LINES - MIDDLE_LINES - len(BAD_LINES))
        chosen += chance.choices(middle, k=MIDDLE_LINES)
        bad = list(BAD_LINES)
        order = chance.sample(range(LINES), k=LINES)
        lines: list[bytes] = []
        for position in order:
            if chance.random() < 0.01:
                lines.append(chance.choice([b"", b"# a comment", b"  "]))
            number = len(lines) + 1
            if position < len(chosen):
                lines.append(self._good(number, *chosen[position], filled, chance))
            else:
                line = bad[position - len(chosen)]
                self.codes[number] = BAD_LINES[line]
                lines.append(line)
        self.stdin = b"\n".join(lines)

    def _good(
        self,
        number: int,
        tag: str,
        digest: str,
        content: bytes,
        filled: Filled,
        chance: random.Random,
    ) -> bytes:
        forms = [tag, f"{tag}@{digest}"] if tag else [digest, f"@{digest}"]
        manifest = filled.manifests.get(digest)
        hints = {
            f"mediatype:{manifest.media_type if manifest else OCI_LAYER}": 0.8,
            f"size:{len(content)}": 0.4,
            "colour:blue": 0.1,
            "content:none": 0.1,
        }
        words = [chance.choice(forms), *(each for each in hints if chance.random() < hints[each])]
        self.contents[number] = (digest, None if "content:none" in words else content)
        return (" ".join(words) + chance.choice(["", "\r", " "])).encode()


@pytest.fixture(scope="module")
def mixed(filled: Filled) -> Mixed:
    return Mixed(filled, seed=5_000)


def check(answer: Answer, digest: str, content: bytes | None) -> None:
    assert answer.end is not None, answer.error
    assert answer.is_verified is (content is not None)
    assert answer.content == (content or b"")
    if not digest.startswith("sha512:"):
        assert answer.descriptor["digest"] == digest
    if content is not None:
        assert answer.descriptor["size"] in {len(content), None}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "flags", [[], ["--ordered"], ["--jobs", "1"], ["--jobs", "64"]], ids=" ".join
)
def test_each_good_line_of_thousands_gets_its_object_and_each_bad_one_its_error(
    registry: DockerRegistry, filled: Filled, mixed: Mixed, flags: list[str]
) -> None:
    done = run(
        [MULTI_FETCH, *flags, "--log-format", "json", f"{registry.address}/{filled.repository}"],
        mixed.stdin,
        ordered="--ordered" in flags,
    )
    assert done.codes == mixed.codes
    assert len(mixed.codes) == len(BAD_LINES) == 20
    for number, (digest, content) in mixed.contents.items():
        check(done.answers[number], digest, content)
    assert len(done.answers) == LINES
    assert done.status == 1
    failures = [json.loads(line) for line in done.stderr.splitlines()]
    assert {each["id"]: each["code"] for each in failures} == mixed.codes


def test_a_large_blob_comes_while_small_ones_overtake_it(
    registry: DockerRegistry, filled: Filled
) -> None:
    remote = f"{registry.address}/{filled.repository}"
    small = next(digest for digest, content in filled.blobs.items() if len(content) == 4096)
    with Parent([MULTI_FETCH, remote], keeps_content=False) as parent:
        parent.write(f"{filled.large.digest}\n{small}\n".encode())
        assert parent.next_closed().id == 2
        assert parent.finish() == 0
        large = parent.session.answers[1]
        assert large.is_verified
        assert large.end == End(1, LARGE_BYTES, filled.large.digest, 0)


@contextmanager
def double(
    registry: DockerRegistry, folder: Path, *, address: str = "127.0.0.1:0"
) -> Iterator[DockerRegistry]:
    """A registry that has what another one has."""
    folder.mkdir()
    shutil.copytree(registry.storage, folder / "storage", copy_function=os.link)
    with docker_registry(folder, port=int(address.rpartition(":")[2])) as running:
        yield running


@pytest.mark.parametrize("flags", [[], ["--ordered"]], ids=" ".join)
def test_a_registry_that_goes_away_in_mid_batch_and_comes_back_costs_no_object(
    registry: DockerRegistry, filled: Filled, tmp_path: Path, flags: list[str]
) -> None:
    """It is stopped while a large blob is on its way, which then goes on from where it broke."""
    small = [digest for digest, content in filled.blobs.items() if len(content) == SMALL_BYTES]
    with ExitStack() as lives:
        first = lives.enter_context(double(registry, tmp_path / "first"))
        command = [MULTI_FETCH, *flags, "--retries", "12", "--log-format", "json"]
        command += [f"{first.address}/{filled.repository}"]
        with Parent(command, ordered=bool(flags), keeps_content=False) as parent:
            parent.write(f"{filled.large.digest}\n".encode())
            while not isinstance(parent.next_frame(), Data):
                pass
            lives.close()  # most of it is still to come, as pipes and sockets hold so much less
            parent.write("\n".join(small[:200]).encode())
            again = double(registry, tmp_path / "again", address=first.address)
            with again:
                assert parent.finish() == 0, parent.stderr
            answers, bye = parent.session.answers, parent.session.bye
            said = [json.loads(line) for line in parent.stderr.splitlines()]
    assert len(answers) == 1 + len(small[:200])
    assert all(answer.is_verified for answer in answers.values())
    assert bye is not None
    assert isinstance(bye.detail["retries"], int)
    assert bye.detail["retries"] >= 1
    assert said  # of trouble it warns when it begins


def test_a_password_opens_a_private_registry_and_stays_out_of_the_log(
    private_registry: DockerRegistry, private_filled: Filled
) -> None:
    account = private_registry.account
    assert account is not None
    remote = f"{private_registry.address}/{private_filled.repository}"
    digest, content = next(iter(private_filled.blobs.items()))
    command = [MULTI_FETCH, "--log-level", "debug", "--log-format", "json", remote]
    known = {
        **os.environ,
        "MULTI_FETCH_USERNAME": account.username,
        "MULTI_FETCH_PASSWORD": account.password,
    }
    done = run(command, f"latest\n{digest}\n".encode(), env=known)
    assert done.status == 0
    assert done.answers[1].content == private_filled.tags["latest"].content
    assert done.answers[2].content == content
    pair = base64.b64encode(f"{account.username}:{account.password}".encode()).decode()
    for secret in (account.password, pair):
        assert secret not in done.stderr
    fetched = subprocess.run(
        [FETCH_OBJECT, remote, digest], env=known, capture_output=True, check=False
    )
    assert (fetched.returncode, fetched.stdout) == (0, content)
    anonymous = run(command, b"latest\n")
    assert (anonymous.status, anonymous.codes) == (3, {1: "unauthorized"})
