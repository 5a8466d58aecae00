"""What to do next about a failure, in one line. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.errors import MultiFetchError

# What OpenSSL and the system say, and what helps. The first that is found in the words counts.
BY_WORDS: Final[Mapping[str, str]] = {
    r"there is no such (folder|file)": "check the path",
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
        "the port speaks no TLS: if that is meant so, add --plain-http"
    ),
    r"Name or service not known|No address associated|not known|getaddrinfo": (
        "check the name's spelling and this machine's DNS; behind a proxy, set HTTPS_PROXY"
    ),
    r"Temporary failure in name resolution": (
        "this machine's DNS does not answer: check the network"
    ),
    r"refused": "nothing listens there: check the port, and whether the registry runs",
    r"unreachable|No route": "check this machine's network, VPN and firewall; or set HTTPS_PROXY",
    r"proxy": "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
}

BY_CODE: Final[Mapping[str, str]] = {
    "unauthorized": "log in with 'docker login {host}' or 'podman login {host}'",
    "denied": "ask for access, or log in as somebody who has it",
    "not-found": "check the name; a registry may also hide what one may not see: log in",
    "rate-limited": "wait a while; a login often has a higher limit",
    "unavailable": "try again later, or ask the registry's operator",
    "timeout": "check this machine's network, VPN and firewall; or set HTTPS_PROXY",
    "registry-error": "check that the host and port are a registry's; else tell its operator",
    "digest-mismatch": "something on the way, or the store, changes content: get it anew",
    "size-mismatch": "something on the way, or the store, cuts content: get it anew",
    "unsupported": "fetch another image: this one cannot be read here",
}


def advice_for(error: MultiFetchError, host: str = "") -> str:
    """What to do next; empty where nobody knows.

    Args:
        error: what failed.
        host: that was asked, as a URL or by its name.
    """
    if isinstance(error, CredentialsError):
        return f"mend or remove {error.path}" if error.path else "run the credential helper by hand"
    if error.status is None:
        for pattern, advice in BY_WORDS.items():
            if re.search(pattern, error.message):
                return advice
    return BY_CODE.get(error.code, "").format(host=host.rpartition("://")[2])
