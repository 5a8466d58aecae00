"""The parents in other languages, where their toolchain is on the machine."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Data, End, Error
from multi_fetch.testing.process import running_registry
from tests.cli.unpack_streams import NOT_FOUND, begin, session, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
PARENTS = ROOT / "examples" / "parents"
VECTORS = ROOT / "tests" / "vectors"
GO_PACKAGES = Path("/usr/share/gocode")

NOTES = "sha256:9e251736d5de66985088fc0b30d004990ccf9596e9d6365ac8f8c3697067f3e0"
LATEST = "sha256:f291de92f846cd41af7ce0c98bdaca8243b8e7efdc81ccd76ed674abb5f7b051"
LAYER = "sha256:de96f5480bca99ed8a1252df1487cbd46ab6eb8e74c3b1ba02af23c7cbae9fee"


def node_parent(folder: Path) -> list[str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not on this machine")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    if int(version.stdout.lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"node is {version.stdout.strip()}, and the parent needs 20")
    for source in (PARENTS / "node").iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    install = [npm, "ci", "--ignore-scripts", "--prefer-offline"]
    done = subprocess.run(
        install, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        pytest.skip(f"npm cannot install @msgpack/msgpack: {done.stderr.strip()[-200:]}")
    return [node, str(folder / "parent.mjs")]


def go_parent(folder: Path) -> list[str]:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not on this machine")
    if not (GO_PACKAGES / "src/github.com/vmihailenco/msgpack/v5").is_dir():
        pytest.skip("golang-github-vmihailenco-msgpack.v5-dev is not on this machine")
    sources = [str(path) for path in sorted((PARENTS / "go").glob("*.go"))]
    gofmt = subprocess.run(["gofmt", "-d", *sources], capture_output=True, text=True, check=True)
    assert gofmt.stdout == ""
    settings = {"GO111MODULE": "off", "GOPATH": str(GO_PACKAGES), "GOFLAGS": "", "GOPROXY": "off"}
    environment = {**os.environ, **settings}
    program = str(folder / "parent")
    subprocess.run([go, "vet", *sources], env=environment, check=True)
    subprocess.run([go, "build", "-o", program, *sources], env=environment, check=True)
    return [program]


def sh_parent(folder: Path) -> list[str]:
    sh = shutil.which("sh")
    if sh is None:
        pytest.skip("sh is not on this machine")
    return [sh, str(PARENTS / "sh" / "parent.sh")]


MAKERS = {"go": go_parent, "node": node_parent, "sh": sh_parent}


class Parent:
    """A parent that can be run, with the folder where it finds its programs."""

    def __init__(self, command: list[str], programs: Path) -> None:
        self.command = command
        self.environment = on_path(os.environ, programs)

    def run(
        self, *arguments: str, worker: Path | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Runs it; ``worker`` is a folder with another ``multi-fetch``."""
        environment = self.environment if worker is None else on_path(self.environment, worker)
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in err, err
        assert "goroutine" not in err, err
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def on_path(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {**environment, "PATH": f"{folder}{os.pathsep}{environment['PATH']}"}


def script(folder: Path, text: str, name: str = "multi-fetch") -> Path:
    """A folder with a program of that name."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return folder


def python(function: str, *arguments: str) -> str:
    code = f"from multi_fetch.cli.start import {function}\nraise SystemExit({function}())"
    return f'exec {shlex.join([sys.executable, "-c", code, *arguments])} "$@"'


@pytest.fixture(scope="session", params=MAKERS)
def parent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    script(folder / "bin", python("multi_fetch"))
    script(folder / "bin", python("multi_fetch_unpack"), "multi-fetch-unpack")
    return Parent(MAKERS[name](folder), folder / "bin")


@pytest.fixture(scope="module")
def remote() -> Iterator[str]:
    with running_registry(ROOT / "examples" / "layout") as address:
        yield f"{address}/demo/app"


def canned(folder: Path, stream: bytes, status: int = 0) -> Path:
    """A worker that takes all lines, then says what it was told to."""
    (folder / "stream").write_bytes(stream)
    text = f"cat > /dev/null\ncat {shlex.quote(str(folder / 'stream'))}\nexit {status}"
    return script(folder / "canned", text)


def essence(frame: list[Any]) -> list[Any]:
    """What a parent tells of a frame; content is base64, or from the shell as in tests/vectors."""
    match frame:
        case ["data", number, offset, {"size": size, "sha256": hashed}]:
            return ["data", number, offset, size, hashed]
        case ["data", number, offset, content]:
            text = content["base64"] if isinstance(content, dict) else content
            piece = base64.b64decode(text, validate=True)
            return ["data", number, offset, len(piece), hashlib.sha256(piece).hexdigest()]
        case _:
            return frame


def meaning(lines: str) -> list[list[Any]]:
    return [essence(json.loads(line)) for line in lines.splitlines()]


def wanted_of(vector: Path) -> tuple[list[list[Any]], bool]:
    """The frames of a vector, and whether it is refused after them."""
    wanted = json.loads(vector.with_suffix(".json").read_bytes())
    return [essence(frame) for frame in wanted["frames"]], "error" in wanted


def test_each_vector_means_what_its_json_says(parent: Parent) -> None:
    def differs(vector: Path) -> bool:
        done = parent.run("--decode", stdin=vector.read_bytes())
        told = meaning(done.stdout)
        return (told, done.returncode != 0) != wanted_of(vector)

    vectors = sorted(VECTORS.glob("*.bin"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(differs, vectors))
    assert len(vectors) >= 30
    assert [
        vector.stem for vector, is_wrong in zip(vectors, results, strict=True) if is_wrong
    ] == []


def test_a_stream_means_the_same_byte_by_byte(parent: Parent) -> None:
    vector = VECTORS / "session-error-after-content.bin"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*parent.command, "--decode"], stdin=pipe, stdout=pipe, env=parent.environment
    ) as process:
        assert process.stdin is not None
        for byte in vector.read_bytes():
            process.stdin.write(bytes((byte,)))
            process.stdin.flush()
        out, _ = process.communicate()
    told = meaning(out.decode())
    assert (told, process.returncode != 0) == wanted_of(vector)


def test_a_parent_that_nobody_reads_ends_without_a_fuss(parent: Parent) -> None:
    stream = (VECTORS / "session-interleaved.bin").read_bytes()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [*parent.command, "--decode"],
            input=stream,
            stdout=closed,
            stderr=subprocess.PIPE,
            env=parent.environment,
            check=False,
        )
    assert done.returncode != 0
    assert done.stderr.count(b"\n") <= 1


def test_objects_of_a_live_worker_are_fetched_and_verified(parent: Parent, remote: str) -> None:
    good = parent.run(remote, "latest", NOTES, f"{LAYER} size:547", "notes content:none")
    assert good.returncode == 0, good.stderr
    assert sorted(good.stdout.splitlines()) == [
        f"1 {LATEST} 534",
        f"2 {NOTES} 411",
        f"3 {LAYER} 547",
        "4 - 0",
    ]
    bad = parent.run(remote, "nope", "latest", f"{LAYER} size:5", ".hidden")
    assert bad.returncode == 1
    assert sorted(bad.stdout.splitlines()) == [
        "1 not-found 0",
        f"2 {LATEST} 534",
        "3 size-mismatch 0",
        "4 invalid-request 0",
    ]
    assert "not found" in bad.stderr.lower()


def test_trees_and_ranges_are_objects_like_others(parent: Parent, remote: str) -> None:
    done = parent.run(remote, "notes children:all", f"{LAYER} range:5-20")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {f"1 {NOTES} 411", "2 - 16"} < set(lines)
    children = [line.split() for line in lines if line.startswith("-")]
    assert {number for number, _, _ in children} == {"-1", "-2"}
    assert all(digest.startswith("sha256:") for _, digest, _ in children)


def test_more_requests_than_window_and_pipes_hold_do_not_deadlock(
    parent: Parent, remote: str, tmp_path: Path
) -> None:
    narrow = script(
        tmp_path / "narrow", python("multi_fetch", "--window", "2", "--log-level", "error")
    )
    lines = [f"latest size:{'9' * 40}{number}" for number in range(4_000)]
    done = parent.run(remote, *lines, worker=narrow)
    assert done.returncode == 1
    assert sorted(done.stdout.splitlines()) == sorted(
        f"{number} invalid-request 0" for number in range(1, 4_001)
    )


def test_the_status_of_the_worker_is_the_parents(parent: Parent, tmp_path: Path) -> None:
    impatient = script(tmp_path / "impatient", python("multi_fetch", "--retries", "0"))
    refused = parent.run("127.0.0.1:1/demo/app", "latest", worker=impatient)
    assert (refused.returncode, refused.stdout) == (3, "1 unavailable 0\n")
    ended = parent.run("x", "latest", worker=canned(tmp_path, session(*whole(1, b"x")), 143))
    assert ended.returncode == 143


def test_a_fault_of_the_worker_is_no_success(parent: Parent, tmp_path: Path) -> None:
    fault = Error(0, "internal", "a fault of the worker", retryable=False, detail={})
    done = parent.run("x", "a", worker=canned(tmp_path, session(*whole(1, b"x"), fault)))
    assert done.returncode == 1
    assert "a fault of the worker" in done.stderr


ABCD = digest_of(b"abcd")


STRANGERS = {
    "not announced": session(*whole(1, b"x"), *whole(-1, b"child", parent=1)),
    "of no parent": session(*whole(1, b"x")[:-1], End(1, 1, digest_of(b"x"), 1), *whole(-1, b"y")),
    "missing": session(*whole(1, b"x")[:-1], End(1, 1, digest_of(b"x"), 1)),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_tree_that_is_not_as_announced_is_no_success(
    parent: Parent, tmp_path: Path, stranger: str
) -> None:
    done = parent.run("x", "a", worker=canned(tmp_path, STRANGERS[stranger]))
    assert done.returncode == 1


def test_a_worker_that_a_signal_ended_is_no_success(parent: Parent, tmp_path: Path) -> None:
    (tmp_path / "stream").write_bytes(session(*whole(1, b"x")))
    stream = shlex.quote(str(tmp_path / "stream"))
    killed = script(tmp_path / "killed", f"cat {stream}; kill -9 $$")
    assert parent.run("x", "a", worker=killed).returncode != 0


def test_without_a_worker_a_parent_says_so(parent: Parent, tmp_path: Path) -> None:
    programs = ("sh", "sed", "node", "multi-fetch-unpack")
    for name in programs:
        if found := shutil.which(name, path=parent.environment["PATH"]):
            (tmp_path / name).symlink_to(found)
    done = subprocess.run(
        [*parent.command, "x", "a"],
        env={**parent.environment, "PATH": str(tmp_path)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert b"multi-fetch" in done.stderr


def test_a_refused_worker_does_not_go_on(parent: Parent, tmp_path: Path) -> None:
    rubbish = script(tmp_path / "rubbish", "exec cat /dev/zero")
    done = parent.run("x", "a", worker=rubbish)
    assert (done.returncode, done.stdout) == (1, "")


def test_large_objects_interleave_and_children_come_along(parent: Parent, tmp_path: Path) -> None:
    stream = session(
        begin(1, b"abcd"),
        Data(1, 0, b"ab"),
        *whole(2, b"x")[:-1],
        End(2, 1, digest_of(b"x"), 1),
        *whole(-1, b"child", parent=2),
        Data(1, 2, b"cd"),
        End(1, 4, ABCD, 0),
    )
    done = parent.run("x", "a", "b", worker=canned(tmp_path, stream))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"2 {digest_of(b'x')} 1",
        f"-1 {digest_of(b'child')} 5",
        f"1 {ABCD} 4",
    ]


LIES = {
    "altered content": session(begin(1, b"abcd"), Data(1, 0, b"abcX"), End(1, 4, ABCD, 0)),
    "a wrong size": session(begin(1, b"abcd"), Data(1, 0, b"abcd"), End(1, 5, ABCD, 0)),
    "a gap": session(begin(1, b"abcd"), Data(1, 1, b"abcd"), End(1, 4, ABCD, 0)),
    "no begin": session(Data(1, 0, b"abcd"), End(1, 4, ABCD, 0)),
    "no end": session(begin(1, b"abcd"), Data(1, 0, b"abcd")),
    "no bye": session(begin(1, b"abcd"), Data(1, 0, b"abcd"))[:-20],
    "nothing": b"",
    "no hello": session(NOT_FOUND)[len(session()) :],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_stream_that_is_not_right_gives_no_digest(
    parent: Parent, tmp_path: Path, lie: str
) -> None:
    done = parent.run("x", "latest", worker=canned(tmp_path, LIES[lie]))
    assert done.returncode == 1
    assert str(ABCD) not in done.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["x"], ["x", "a\nb"], ["x", "#a"], ["x", "!a"], ["x", "a", ""], ["x", " #"]]
)
def test_wrong_usage_and_smuggled_lines_are_refused(
    parent: Parent, tmp_path: Path, arguments: Sequence[str]
) -> None:
    done = parent.run(*arguments, worker=script(tmp_path / "unwanted", "echo started; exit 1"))
    assert (done.returncode, done.stdout) == (2, "")


def test_each_file_of_a_parent_can_be_read_in_one_go() -> None:
    """One file a parent; Go's has another for frames, since its library judges too little."""
    sources = [
        path
        for path in PARENTS.rglob("*.*")
        if path.suffix not in {"", ".json", ".md", ".mod", ".sum"}
        and "node_modules" not in path.parts
    ]
    folders = [path for path in PARENTS.iterdir() if path.is_dir()]
    parents = [source for source in sources if source.stem == "parent"]
    assert sorted(source.parent for source in parents) == sorted(folders)
    assert {source.name for source in sources if source not in parents} == {"frames.go"}
    assert {folder.name for folder in folders} == set(MAKERS)
    lengths = {str(source): len(source.read_text().splitlines()) for source in sources}
    assert max(lengths.values()) < 120, lengths


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((PARENTS / "node" / "package-lock.json").read_bytes())
    assert "resolved" not in lock["packages"]["node_modules/@msgpack/msgpack"]
    assert "integrity" in lock["packages"]["node_modules/@msgpack/msgpack"]
