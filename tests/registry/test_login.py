"""A login is looked for once, and again when refused: by one, for all, and not too often."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from multi_fetch.durations import CREDENTIALS_RETRY_SECONDS
from multi_fetch.errors import CredentialsError
from multi_fetch.registry.credentials import Credential, Held
from multi_fetch.registry.login import Login

OLD = Credential(username="alice", password="old")
NEW = Credential(username="alice", password="new")


class Finder:
    """Gives what it is told to, or raises it; counts."""

    def __init__(self, *found: Credential | CredentialsError | None) -> None:
        self.found = list(found)
        self.looks = 0

    async def __call__(self) -> Held | None:
        self.looks += 1
        await trio.sleep(1)
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(found, CredentialsError):
            raise found
        return None if found is None else Held("config.json", "auths.r", found)


async def test_a_given_login_has_no_other() -> None:
    login = Login.of(OLD)
    assert await login.credential() is OLD
    assert await login.after_refusal(OLD) is None
    assert await Login().credential() is None


async def test_many_that_want_it_look_once(autojump_clock: trio.testing.MockClock) -> None:
    finder, got = Finder(OLD, NEW), list[Credential | None]()
    login = Login(finder)

    async def one() -> None:
        got.append(await login.credential())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert got == [OLD] * 5
    assert finder.looks == 1


async def test_that_there_is_none_is_remembered(autojump_clock: trio.testing.MockClock) -> None:
    finder = Finder(None)
    login = Login(finder)
    assert await login.credential() is None
    assert await login.credential() is None
    assert finder.looks == 1


async def test_many_that_were_refused_look_once(autojump_clock: trio.testing.MockClock) -> None:
    finder, got = Finder(OLD, NEW), list[Credential | None]()
    login = Login(finder)
    await login.credential()

    async def one() -> None:
        got.append(await login.after_refusal(OLD))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert got == [NEW] * 5
    assert finder.looks == 2


async def test_the_same_again_is_none_and_not_looked_for_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    finder = Finder(OLD)
    login = Login(finder)
    await login.credential()
    for _ in range(5):
        assert await login.after_refusal(OLD) is None
    assert finder.looks == 2
    await trio.sleep(CREDENTIALS_RETRY_SECONDS)
    assert await login.after_refusal(OLD) is None
    assert finder.looks == 3


async def test_a_failure_is_everybodys_and_is_not_tried_again_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    finder = Finder(CredentialsError("no helper"), OLD)
    login = Login(finder)
    seen = []
    for _ in range(5):
        with pytest.raises(CredentialsError, match="no helper") as caught:
            await login.credential()
        seen.append(caught.value)
    assert finder.looks == 1
    assert len({id(error) for error in seen}) == 5
    await trio.sleep(CREDENTIALS_RETRY_SECONDS)
    assert await login.credential() is OLD


async def test_who_is_cancelled_while_looking_leaves_it_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    finder = Finder(OLD)
    login = Login(finder)
    with trio.move_on_after(0.5):
        await login.credential()
    assert await login.credential() is OLD
    assert finder.looks == 2
