"""The ends of messages."""

from __future__ import annotations

import errno

import pytest

from multi_fetch.advice import (
    TRY_LATER,
    about_connection,
    about_file,
    with_advice,
)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("certificate verify failed: self-signed certificate in certificate chain", "--ca-file"),
        ("certificate verify failed: self signed certificate", "--ca-file"),
        ("unable to get local issuer certificate", "--ca-file"),
        ("certificate verify failed: certificate has expired", "renew"),
        ("certificate is not yet valid", "clock"),
        ("Hostname mismatch, certificate is not valid for 'a'", "the name that"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "--plain-http"),
        ("no connection: by the proxy p.example:1: Name or service not known", "HTTPS_PROXY, ALL"),
        ("no connection: by the proxy p.example:1: self-signed certificate", "--ca-file"),
        ("no connection: by the proxy p.example:1: Connection refused", "hosts.toml, and that"),
        ("no connection: by the proxy p.example:1: [Errno 24] Too many open files", "ulimit -n"),
        ("no connection: by the proxy p.example:1: the handshake exceeds 9 bytes", "--jobs"),
        ("[Errno -2] Name or service not known", "spelling"),
        ("[Errno -3] Temporary failure in name resolution", "DNS"),
        ("the handshake exceeds 12288 bytes", "--jobs"),
        ("[Errno 24] Too many open files", "ulimit -n"),
        ("Connection refused", "port"),
        ("Network is unreachable", "network"),
        ("no connection in 30 s", "firewall"),
        ("'socks5://x' is no proxy", "HTTPS_PROXY"),
    ],
)
def test_the_systems_words_lead_on(words: str, part: str) -> None:
    assert part in about_connection(words)
    assert with_advice(words) == f"{words}; {about_connection(words)}"


def test_other_words_are_for_later() -> None:
    assert about_connection("something else") == ""
    assert with_advice("something else") == f"something else{TRY_LATER}"


def test_a_full_disk_wants_room_and_all_else_a_look() -> None:
    assert about_file(OSError(errno.ENOSPC, "")) == "; make room there"
    assert about_file(OSError(errno.EIO, "")) == "; check where it leads"
