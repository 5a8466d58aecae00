from __future__ import annotations

import subprocess
import sys

import pytest

from multi_fetch import client


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_it_loads_no_event_loop_and_nothing_of_the_network() -> None:
    loaded = loaded_by("from multi_fetch.client import Answer, Worker, fetch_many")
    assert not loaded & {"trio", "anyio", "asyncio", "httpx", "h11", "ssl"}


def test_the_async_names_bring_anyio_when_they_are_asked_for() -> None:
    loaded = loaded_by("from multi_fetch.client import AsyncAnswer, AsyncWorker")
    assert "anyio" in loaded
    assert not loaded & {"trio", "httpx"}


def test_every_promised_name_is_there_and_no_other() -> None:
    for name in client.__all__:
        assert getattr(client, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = client.Nothing  # type: ignore[attr-defined]  # that is what is tested
