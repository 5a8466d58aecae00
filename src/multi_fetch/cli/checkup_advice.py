"""What to do next about a failure, in one line. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from multi_fetch.advice import about_connection
from multi_fetch.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.errors import MultiFetchError

CHECK_THE_PATH: Final = "check the path"

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


# A URL may have any word in it.
ASKED = re.compile(r"(GET|HEAD|POST) \S+: ")


def advice_for(error: MultiFetchError, host: str = "") -> str:
    """What to do next; empty where nobody knows.

    Args:
        error: what failed.
        host: that was asked, as a URL or by its name.
    """
    if error.advice:
        return error.advice
    if isinstance(error, CredentialsError):
        return f"mend or remove {error.path}" if error.path else "run the credential helper by hand"
    if error.status is None and (advice := about_connection(_words(error))):
        return advice
    if error.message.endswith(CHECK_THE_PATH):
        return CHECK_THE_PATH
    return BY_CODE.get(error.code, "").format(host=host.rpartition("://")[2])


def _words(error: MultiFetchError) -> str:
    return ASKED.sub("", error.message, count=1)
