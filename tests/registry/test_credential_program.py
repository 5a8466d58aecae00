"""Credential helpers: real programs on PATH, which answer, fail, hang, and write too much."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import CredentialsError
from multi_fetch.limits import MAX_HELPER_OUTPUT_BYTES
from multi_fetch.registry.auth import basic
from multi_fetch.registry.credential_program import ask, read_answer
from multi_fetch.registry.credentials import Credential

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tests.registry.conftest import Install

SECRET = "s3cret"


async def failure(name: str = "test", **limits: float) -> CredentialsError:
    with pytest.raises(CredentialsError) as caught:
        await ask(name, "r.example", **limits)
    assert SECRET not in caught.value.message
    return caught.value


async def test_a_helper_gets_the_registry_on_stdin_and_nothing_as_an_argument(
    install: Install,
) -> None:
    folder = install('server=$(cat); echo "$# $* <$server>" > "$0.log"; echo "{}"')
    assert await ask("test", "https://r.example/v1/") is None
    log = (folder / "docker-credential-test.log").read_text()
    assert log == "1 get <https://r.example/v1/>\n"


async def test_what_it_answers_is_a_login_or_an_identity_token(install: Install) -> None:
    install("""echo '{"ServerURL": "r.example", "Username": "alice", "Secret": "s3cret"}'""")
    assert await ask("test", "r.example") == Credential(username="alice", password=SECRET)
    install("""echo '{"ServerURL": "r.example", "Username": "<token>", "Secret": "s3cret"}'""")
    assert await ask("test", "r.example") == Credential(identity_token=SECRET)


@pytest.mark.parametrize(
    "said",
    [
        "credentials not found in native keychain",
        "credentials not found",
        "Credentials not found in native keychain\\r",
        "no credentials server URL",
        "The specified item could not be found in the keychain.",
        "Element not found.",
    ],
)
async def test_that_there_is_nothing_has_many_spellings(install: Install, said: str) -> None:
    install(f"printf '{said}\\n'; exit 1")
    assert await ask("test", "r.example") is None


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/bin/sh", "a/b", "a\\b", "-x", "a b", "a\n", "é", "x" * 65, "a\0b"],
)
async def test_a_name_that_could_be_a_path_is_refused(install: Install, name: str) -> None:
    install("touch $0.log")
    error = await failure(name)
    assert "no name of a credential helper" in error.message


async def test_a_helper_that_is_not_there_is_named() -> None:
    error = await failure("not-there")
    assert "docker-credential-not-there cannot be started: No such file" in error.message
    assert "install it" in error.message


async def test_a_helper_that_fails_is_named_with_its_status_and_not_quoted(
    install: Install,
) -> None:
    install("echo s3cret; echo s3cret >&2; exit 3")
    error = await failure()
    assert "docker-credential-test failed with status 3" in error.message


async def test_a_login_in_the_name_of_a_registry_is_not_told(install: Install) -> None:
    install("exit 3")
    with pytest.raises(CredentialsError) as caught:
        await ask("test", "https://alice:s3cret@r.example/")
    assert "write 'r.example/' to the stdin" in caught.value.message


async def test_a_helper_that_ends_well_without_an_answer_is_refused(install: Install) -> None:
    install("echo s3cret")
    assert "wrote no JSON" in (await failure()).message


async def failure_at_the_deadline(folder: Path, clock: MockClock) -> CredentialsError:
    """Of a helper that writes its process's id; time stands still until it has done so."""
    log = folder / "docker-credential-test.log"
    os.mkfifo(log)
    errors: list[CredentialsError] = []

    async def fail() -> None:
        errors.append(await failure(timeout_seconds=0.5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        pid = int(await trio.Path(log).read_text())
        clock.autojump_threshold = 0.05
    assert not is_running(pid)
    return errors[0]


async def test_a_helper_that_hangs_is_ended_at_the_deadline(
    install: Install, mock_clock: MockClock
) -> None:
    folder = install('echo $$ > "$0.log"; exec sleep 1000')
    error = await failure_at_the_deadline(folder, mock_clock)
    assert "gave no answer in 0.5 s" in error.message


async def test_a_helper_that_ignores_sigterm_is_killed(
    install: Install, mock_clock: MockClock
) -> None:
    script = 'trap "" TERM; echo $$ > "$0.log"; while :; do sleep 0.1; done'
    await failure_at_the_deadline(install(script), mock_clock)


async def test_a_helper_that_writes_without_end_is_stopped(install: Install) -> None:
    install("exec yes s3cret")
    with trio.fail_after(20):
        error = await failure()
    assert f"more than {MAX_HELPER_OUTPUT_BYTES} bytes" in error.message


async def test_a_helper_need_not_read(install: Install) -> None:
    install("""exec <&-; echo '{"Username": "a", "Secret": "b"}'""")
    credential = await ask("test", "r" * 200_000)
    assert credential == Credential(username="a", password="b")


async def test_a_helper_that_leaves_stdout_to_a_daemon_has_answered(install: Install) -> None:
    """Who unlocks a vault starts an agent, which lives on with what it inherited."""
    folder = install("""
        sleep 1000 & echo $! > "$0.log"
        echo '{"Username": "a", "Secret": "b"}'
    """)
    with trio.fail_after(20):
        credential = await ask("test", "r.example")
    assert credential == Credential(username="a", password="b")
    daemon = int((folder / "docker-credential-test.log").read_text())
    assert is_running(daemon)  # it is nobody's here to end
    os.kill(daemon, signal.SIGKILL)


async def test_what_a_helper_writes_just_before_its_end_is_read(install: Install) -> None:
    secret = "x" * 300_000
    install(f"""
        printf '{{"Username": "a", "Secret": "'
        head -c {len(secret)} /dev/zero | tr '\\0' x
        echo '"}}'
    """)
    assert await ask("test", "r.example") == Credential(username="a", password=secret)


async def test_a_request_that_is_cancelled_leaves_no_helper_behind(install: Install) -> None:
    folder = install('echo $$ > "$0.log"; exec sleep 1000')
    log = folder / "docker-credential-test.log"
    os.mkfifo(log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "test", "r.example")
        with trio.fail_after(20):
            pid = int(await trio.Path(log).read_text())
        nursery.cancel_scope.cancel()
    assert not is_running(pid)


# Its child holds the FIFO too, so that its end is the end of both.
WITH_A_CHILD = 'exec 3> "$0.log"; echo ready >&3; (%s sleep 1000; true); true'


@pytest.mark.parametrize("deafness", ["", "trap '' TERM;"])
async def test_what_a_helper_has_started_is_ended_with_it(install: Install, deafness: str) -> None:
    folder = install(WITH_A_CHILD % deafness)
    log = folder / "docker-credential-test.log"
    os.mkfifo(log)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "test", "r.example")
            async with await trio.open_file(log) as held:
                assert await held.readline() == "ready\n"
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    assert await held.read() == ""


# A session of its own, whose terminal is the first that it opens.
AT_A_TERMINAL = """
import os, sys, trio
from multi_fetch.registry.credential_program import ask
os.open(sys.argv[1], os.O_RDWR)
print(trio.run(ask, "test", "r.example").password)
"""


def test_a_helper_may_ask_its_user_at_the_terminal(install: Install) -> None:
    install("""
        printf 'password: ' > /dev/tty; read -r secret < /dev/tty
        echo "{\\"Username\\": \\"alice\\", \\"Secret\\": \\"$secret\\"}"
    """)
    terminal, end = os.openpty()
    command = [sys.executable, "-c", AT_A_TERMINAL, os.ttyname(end)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert os.read(terminal, 100) == b"password: "
            os.write(terminal, f"{SECRET}\n".encode())
            out, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    os.close(terminal)
    os.close(end)
    assert out == f"{SECRET}\n".encode()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_answer_without_a_secret_is_none() -> None:
    assert read_answer(b'{"ServerURL": "", "Username": "", "Secret": ""}', program="x") is None


@given(
    st.binary(max_size=60)
    | st.fixed_dictionaries(
        {}, optional={"Username": st.text() | st.none(), "Secret": st.text() | st.integers()}
    ).map(lambda each: json.dumps(each).encode())
)
def test_any_output_is_an_answer_or_refused(output: bytes) -> None:
    try:
        credential = read_answer(output, program="docker-credential-x")
    except CredentialsError as error:
        assert error.message == (  # noqa: PT017 - both outcomes are right
            "docker-credential-x ended well, but wrote no JSON with Username and Secret: check that"
            " it is a credential helper"
        )
        return
    assert credential is None or basic(credential).authorization


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(CredentialsError):
        read_answer(rb'{"Username": "a", "Secret": "\ud800"}', program="x")
