"""Credential helpers: programs named ``docker-credential-<name>`` that know a user's secrets.

``docker-credential-<name> get`` reads a registry's name from stdin and writes JSON to stdout:
``{"ServerURL": ..., "Username": ..., "Secret": ...}``. The user name ``<token>`` says that the
secret is an identity token. That there is nothing is a text on stdout and exit status 1.

What a helper writes may hold secrets, so it is never shown; its stderr is not even read.

One that has to be ended is ended with all that it started: it has a process group of its own. But
not where it may ask its user, at the terminal of this process: nobody else's group can read there.
Source: docker-credential-helpers, README and client/client.go.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from multi_fetch.durations import HELPER_GRACE_SECONDS, HELPER_TIMEOUT_SECONDS
from multi_fetch.errors import CredentialsError
from multi_fetch.limits import MAX_HELPER_OUTPUT_BYTES
from multi_fetch.registry.concealment import Discreet
from multi_fetch.registry.credentials import Credential
from multi_fetch.registry.errcode import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

# Nothing that could be a path, or an option.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

# As docker-credential-helpers, macOS's keychain, Windows' store and the clouds' helpers say it.
NOT_FOUND = re.compile(
    rb"credentials? not found|no credentials|not be found in the keychain|element not found",
    re.IGNORECASE,
)

TOKEN_USERNAME: Final = "<token>"  # noqa: S105 - a user name


class _Answer(Discreet, msgspec.Struct, rename="pascal"):
    username: str = ""
    secret: str = ""


async def ask(
    name: str, server: str, *, timeout_seconds: float = HELPER_TIMEOUT_SECONDS
) -> Credential | None:
    """What a credential helper knows for a registry, or None.

    Args:
        name: what stands behind ``docker-credential-``.
        server: the registry, as the helper knows it.
        timeout_seconds: for all of it.

    Raises:
        CredentialsError: there is no such program, or it failed, or it is not to be understood.
    """
    if not NAME.fullmatch(name):
        raise CredentialsError(
            f"{printable(name, 80)!r} is no name of a credential helper: write what stands behind"
            " 'docker-credential-', which is no path"
        )
    program = f"docker-credential-{name}"
    with trio.move_on_after(timeout_seconds) as scope:
        status, output = await _run(program, server.encode())
    if scope.cancelled_caught:
        raise CredentialsError(
            f"{program} gave no answer in {timeout_seconds:g} s: run '{program} list' by hand, and"
            " see what it waits for"
        )
    if len(output) > MAX_HELPER_OUTPUT_BYTES:
        raise CredentialsError(
            f"{program} wrote more than {MAX_HELPER_OUTPUT_BYTES} bytes: check that it is a"
            " credential helper"
        )
    if status == 0:
        return read_answer(output, program=program)
    if NOT_FOUND.search(output):
        return None
    raise CredentialsError(
        f"{program} failed with status {status}: to see why, write"
        f" {printable(server.rpartition('@')[2], 200)!r} to the stdin of '{program} get'"
    )


def read_answer(output: bytes, *, program: str) -> Credential | None:
    """Reads what a helper wrote before it ended well.

    Args:
        output: JSON.
        program: who wrote it, for messages.

    Raises:
        CredentialsError: it is not an answer.
    """
    try:
        answer = msgspec.json.decode(output, type=_Answer)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        if NOT_FOUND.search(output):
            return None
        raise CredentialsError(
            f"{program} ended well, but wrote no JSON with Username and Secret: check that it is a"
            " credential helper"
        ) from None
    if not answer.secret:
        return None
    if answer.username == TOKEN_USERNAME:
        return Credential(identity_token=answer.secret)
    return Credential(username=answer.username, password=answer.secret)


def _may_ask_at_terminal() -> bool:
    """Whether this process is in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it was hung up
        return False
    finally:
        os.close(terminal)


async def _run(program: str, question: bytes) -> tuple[int, bytes]:
    """Exit status and stdout, of which a little too much at most is kept."""
    is_shared = _may_ask_at_terminal()
    try:
        process = await trio.lowlevel.open_process(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=None if is_shared else 0,
        )
    except OSError as error:
        raise CredentialsError(
            f"{program} cannot be started: {error.strerror}. It is the credential helper that"
            " Docker's config.json names: install it where PATH leads, or remove its name there"
        ) from error
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        try:
            with suppress(trio.BrokenResourceError):  # it need not read
                await process.stdin.send_all(question)
            await process.stdin.aclose()
            output = await _output(process, process.stdout)
            if len(output) > MAX_HELPER_OUTPUT_BYTES:
                return 0, output
            return await process.wait(), output
        finally:
            await _end(process, is_shared=is_shared)


async def _output(process: trio.Process, stream: AsyncIterable[bytes | bytearray]) -> bytes:
    """What it writes: to the end, or until it has ended itself, and left stdout to a daemon."""
    output = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_limit, process, nursery.cancel_scope)
        async for data in stream:
            output += data
            if len(output) > MAX_HELPER_OUTPUT_BYTES:
                break
        nursery.cancel_scope.cancel()
    return bytes(output)


async def _limit(process: trio.Process, scope: trio.CancelScope) -> None:
    await process.wait()
    scope.deadline = trio.current_time() + HELPER_GRACE_SECONDS


async def _end(process: trio.Process, *, is_shared: bool) -> None:
    """Ends a program that has not ended, and all in its group: asked first, then told."""
    if process.poll() is not None:
        return
    with trio.CancelScope(shield=True):
        _signal(process, signal.SIGTERM, is_shared=is_shared)
        with trio.move_on_after(HELPER_GRACE_SECONDS):
            await process.wait()
        _signal(process, signal.SIGKILL, is_shared=is_shared)
        await process.wait()


def _signal(process: trio.Process, number: signal.Signals, *, is_shared: bool) -> None:
    if is_shared:
        process.send_signal(number)
        return
    # The group goes on while anybody is in it, and macOS refuses where all have exited.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
