"""Asks a token service for a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from multi_fetch.advice import TRY_LATER
from multi_fetch.budget import uncounted
from multi_fetch.durations import TOKEN_BODY_SECONDS
from multi_fetch.errors import (
    DeadlineExceededError,
    NotFoundError,
    RegistryError,
    TooLargeError,
)
from multi_fetch.limits import MAX_TOKEN_BODY_BYTES
from multi_fetch.registry.url import parse_url

if TYPE_CHECKING:
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.auth import TokenRequest
    from multi_fetch.registry.exchange import Exchange


async def ask_token_service(exchange: Exchange, question: TokenRequest) -> bytes:
    """The body of its answer, which is a token's if the service keeps to its word.

    Some answer a POST with 201, and a proxy may make 203 of 200: it is the token's all the same.

    Raises:
        RegistryError: there is no such service, or its answer is too large.
        MultiFetchError: it refuses, or there is no answer.
    """
    method, headers = "GET", {"Accept": "application/json"}
    if question.form:
        method = "POST"
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    answer = await exchange.follow(
        method,
        parse_url(question.url),
        headers,
        question.authorization,
        form=question.form or None,
        place=question.place,
    )
    try:
        if 200 <= answer.status < 300:
            return await _whole(answer)
        error = await answer.error()
    except TooLargeError as large:
        raise RegistryError(f"no token: {large}") from large
    finally:
        await answer.aclose()
    if isinstance(error, NotFoundError):  # no token service is not: no such object
        raise RegistryError(error.message, status=error.status)
    raise error


async def _whole(answer: Answer) -> bytes:
    # The others of the repository wait for it, also who goes on where there is no room.
    with trio.move_on_after(TOKEN_BODY_SECONDS), uncounted():
        return await answer.read(MAX_TOKEN_BODY_BYTES)
    raise DeadlineExceededError(
        f"{answer.what}: no whole token in {TOKEN_BODY_SECONDS:g} s{TRY_LATER}"
    )
