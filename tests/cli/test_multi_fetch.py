"""The worker's command line in this process; as a process of its own it is in end_to_end."""

from __future__ import annotations

import pytest

from multi_fetch.cli.multi_fetch import main
from tests.parent import read_stream


def test_a_run_without_requests_says_hello_and_bye(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """stdin is /dev/null, as pytest captures it."""
    assert main(["--window", "7", "redis"]) == 0
    out, err = capfdbinary.readouterr()
    session = read_stream(out, asked={})
    assert session.hello is not None
    assert (session.hello.remote, session.hello.window) == ("docker.io/library/redis", 7)
    assert err == b""


def test_a_remote_with_an_object_is_told_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redis:7@sha256:" + "0" * 64]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "write 'multi-fetch docker.io/library/redis' and '7@sha256:" in err


@pytest.mark.parametrize(
    "words", [[], ["a", "b"], ["--jobs", "0", "a"], ["--ord", "a"], ["--timeout", "1", "a"]]
)
def test_wrong_usage_ends_with_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: multi-fetch")
