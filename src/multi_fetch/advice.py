"""What to do next about a failure: the ends of messages that several rooms have. Pure text."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TELL_OPERATOR: Final = "; tell the registry's operator"
TRY_LATER: Final = "; try again later"
PUSH_AGAIN: Final = "; push it again with a current tool"
_BY_HTTPS: Final = "ask it by https: leave out --plain-http, or write https://... in its hosts.toml"
NEEDS_TLS: Final = f"; the port speaks TLS: {_BY_HTTPS}"
# Not every server that speaks TLS says so to who does not: some only break off.
MAY_NEED_TLS: Final = f"try again later, or, if the port speaks TLS, {_BY_HTTPS}"
# The flag is for one registry: it is refused with the remote -, and says nothing of a mirror.
BY_HTTP: Final = (
    "add --plain-http, or, for a mirror or with the remote -, write http://... in its hosts.toml"
)
COPY_AGAIN: Final = "; copy it there again"

# What OpenSSL and the system say of a connection, and what helps. The first that is found counts.
_BY_WORDS: Final[Mapping[str, str]] = {
    r"self.signed certificate|unable to get local issuer": (
        "if the certificate is the right one, give its authority's with --ca-file, or in"
        " certs.d/<registry>/ca.crt"
    ),
    r"certificate has expired": "the registry's operator has to renew the certificate",
    r"not yet valid": "look at this machine's clock, or ask the registry's operator",
    r"[Hh]ostname mismatch|IP address mismatch": (
        "use the name that the certificate is for, or ask the registry's operator"
    ),
    r"WRONG_VERSION_NUMBER|wrong version number|HTTP_REQUEST|packet length": (
        f"the port speaks no TLS: if that is meant so, {BY_HTTP}"
    ),
    r"handshake exceeds": "try fewer --jobs",
    r"Too many open files": "raise the limit, as 'ulimit -n 1024' does, or try fewer --jobs",
    r"by the proxy": (
        "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, or the proxy in a hosts.toml, and"
        " that it runs"
    ),
    r"Temporary failure in name resolution": (
        "this machine's DNS does not answer: check the network"
    ),
    r"not known|No address associated|getaddrinfo": (
        "check the name's spelling and this machine's DNS; behind a proxy, set HTTPS_PROXY"
    ),
    r"refused": "nothing listens there: check the port, and whether the registry runs",
    r"unreachable|No route|no connection in": (
        "check this machine's network, VPN and firewall, or set HTTPS_PROXY"
    ),
    r"proxy": "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
}


def about_connection(words: str) -> str:
    """What helps where there was no connection; empty where that cannot be told from the words."""
    return next((advice for each, advice in _BY_WORDS.items() if re.search(each, words)), "")


def with_advice(words: str) -> str:
    """The words of a connection that failed, with what helps, or with the advice to try later."""
    advice = about_connection(words)
    return f"{words}; {advice}" if advice else f"{words}{TRY_LATER}"


def about_file(error: OSError) -> str:
    """What helps where a file or stream failed that somebody else chose."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "; make room there"
    return "; check where it leads"
