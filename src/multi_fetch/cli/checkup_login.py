"""Steps of ``multi-fetch doctor`` about who asks: credentials, and the token that they get.

No secret is told: where it was found, whose it is, and what it is good for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from multi_fetch.registry.concealment import LONG_SECRET_CHARACTERS

if TYPE_CHECKING:
    from multi_fetch.cli.checkup import Checkup
    from multi_fetch.registry.auth import Grant
    from multi_fetch.registry.credentials import Credential, Keychain
    from multi_fetch.registry.hosts import Host


async def check_credentials(
    checkup: Checkup, host: Host, own: Credential | None, keychain: Keychain, repository: str
) -> bool:
    """Looks for credentials as a fetch would; tells whether there was no trouble with it."""
    if own is not None:
        checkup.ok("credentials", f"from the environment, {_whose(own)}")
        return True

    async def look() -> bool:
        held = await keychain.locate(host.authority, repository)
        if held is None:
            places = ", ".join(map(str, keychain.paths))
            checkup.ok("credentials", f"none for {host.authority}; looked for in {places}")
        else:
            told = f"{held.path}, {held.entry}, {_whose(held.credential)}"
            checkup.ok("credentials", told)
        return True

    return await checkup.take("credentials", look) is not None


def tell_grant(checkup: Checkup, grant: Grant, repository: str) -> None:
    """What the credentials, or none, have got."""
    if grant.scheme == "Basic":
        checkup.ok("token", "none is needed: the login goes to the registry itself")
        return
    if not grant.scopes:
        checkup.ok("token", "the registry token of the credentials")
        return
    whose = "anonymous" if grant.is_anonymous else "of the login"
    seconds = grant.expires_at - trio.current_time()
    said = f"{whose}, asked for {' '.join(grant.scopes)}, expires in {seconds:.0f} s"
    if grant.granted is not None:
        said += f", grants {' '.join(grant.granted) or 'nothing'}"
    if grant.refusal is not None:
        checkup.warn(
            "token",
            f"{said}; the login was refused: {grant.refusal.message}",
            "log in anew, or log out: a stale login costs a question each time",
        )
    elif grant.granted is not None and not _may_pull(grant.granted, repository):
        checkup.warn("token", said, "log in as somebody who may pull, or ask for access")
    else:
        checkup.ok("token", said)


def _may_pull(granted: tuple[str, ...], repository: str) -> bool:
    for scope in granted:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if (kind, name) == ("repository", repository) and {"pull", "*"} & set(actions.split(",")):
            return True
    return False


def _whose(credential: Credential) -> str:
    if credential.registry_token:
        return "a registry token"
    if credential.identity_token:
        return "an identity token"
    # Then the name is the secret: some take a token in its place.
    if not credential.password:
        return "a user without a password"
    # Some services take a token for both: DigitalOcean's registry does.
    if credential.username == credential.password:
        return "a user whose name is the password"
    # Others take one as the name, and a word as the password: GitHub does, "x-oauth-basic".
    if len(credential.username) >= max(LONG_SECRET_CHARACTERS, len(credential.password)):
        return "a user whose name may be the secret"
    return f"user {credential.username!r}"
