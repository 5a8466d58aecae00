"""Authorization: what to send, and what to ask the token service. No I/O.

A challenge and a credential become TokenRequests, the likeliest form first; a body becomes a
Token. Sources: distribution's docs, spec/auth/token.md and spec/auth/oauth.md.
"""

from __future__ import annotations

import base64
import math
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.durations import DEFAULT_TOKEN_LIFETIME_SECONDS
from multi_fetch.errors import CredentialsError, MultiFetchError, RegistryError
from multi_fetch.limits import MAX_TOKEN_CHARACTERS, TOKEN_RENEWAL_SHARE
from multi_fetch.registry.api import redacted
from multi_fetch.registry.concealment import CONCEALED, Discreet
from multi_fetch.registry.errcode import printable
from multi_fetch.registry.hosts import is_inside, is_loopback, without_port
from multi_fetch.registry.place import OR_TELL, Place, place_of, refused_inside
from multi_fetch.registry.url import parse_url, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.registry.challenge import Challenge
    from multi_fetch.registry.credentials import Credential
    from multi_fetch.registry.hosts import Host

CLIENT_ID: Final = "multi-fetch"

# A token goes into a header: visible ASCII (RFC 6750, section 2.1 allows less; registries use it).
TOKEN_TEXT = re.compile(r"[!-~]+", re.ASCII)

# Halves of characters, but for those that stand for bytes that are no UTF-8 (PEP 383).
HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")

# Answers to one form of the question after which the other is worth asking. Services that know no
# OAuth 2 refuse the POST in many ways (containerd's list, and Python's own 501); one that knows
# nothing else has no GET.
AFTER_POST: Final = frozenset({400, 401, 404, 405, 501})
AFTER_GET: Final = frozenset({404, 405, 501})


class TokenRequest(Discreet, msgspec.Struct, frozen=True):
    """What to ask a token service.

    Attributes:
        url: with its query.
        authorization: the header's value, or empty for an anonymous token.
        form: an OAuth 2 form to POST; empty for a GET.
        place: where the URL may lead.
    """

    url: str
    authorization: str = ""
    form: str = ""
    place: Place = Place.ANYWHERE

    def is_misunderstood(self, status: int | None) -> bool:
        """Whether the service's answer may only mean that it does not know this form."""
        return status in (AFTER_POST if self.form else AFTER_GET)

    def __repr__(self) -> str:
        return f"TokenRequest({redacted(self.url)!r})"


class Token(Discreet, msgspec.Struct, frozen=True):
    """An Authorization header's value, and when to get the next one.

    Attributes:
        authorization: ``Bearer ...`` or ``Basic ...``.
        renew_at: on the clock that ``read_token`` was given; infinite for what never expires.
        expires_at: the same, for when it is of no use any more.
    """

    authorization: str
    renew_at: float = math.inf
    expires_at: float = math.inf

    def __repr__(self) -> str:
        return f"Token(***, renew_at={self.renew_at})"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What is held by way of authorization, without the secret.

    Attributes:
        scheme: ``Bearer`` or ``Basic``.
        scopes: that it was asked for; none for Basic.
        granted: what the token says that it is for, as scopes; None where it does not say.
        expires_at: on trio's clock; infinite for what never expires.
        is_anonymous: whether nobody's login was accepted for it.
        refusal: why the login was not, where there was one; or None.
    """

    scheme: str
    scopes: tuple[str, ...]
    granted: tuple[str, ...] | None
    expires_at: float
    is_anonymous: bool
    refusal: MultiFetchError | None


class _Access(msgspec.Struct):
    """distribution's docs, spec/auth/jwt.md: "access" of a token's claims."""

    type: str
    name: str
    actions: tuple[str, ...] = ()


class _Claims(msgspec.Struct):
    access: tuple[_Access, ...] | None = None


class _Answer(Discreet, msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | str | None = None


def choose_challenge(challenges: Sequence[Challenge]) -> Challenge | None:
    """The best that can be answered here: Bearer, then Basic; last a Bearer that names no realm."""
    for scheme, is_realm_needed in (("bearer", True), ("basic", False), ("bearer", False)):
        for challenge in challenges:
            if challenge.scheme == scheme and ("realm" in challenge.params or not is_realm_needed):
                return challenge
    return None


def scopes_of(challenge: Challenge, repository: str) -> tuple[str, ...]:
    """What a token is to be for: what the challenge says, or pulling from the repository."""
    return tuple(challenge.params.get("scope", "").split()) or (f"repository:{repository}:pull",)


def basic(credential: Credential) -> Token:
    """Basic authentication (RFC 7617, in UTF-8)."""
    return Token(_basic(credential.username, credential.password))


def _basic(username: str, password: str) -> str:
    pair = _bytes(f"{username}:{password}")
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def _bytes(secret: str) -> bytes:
    """In UTF-8; bytes of an environment that are none go out as they are.

    Raises:
        CredentialsError: it has half a character. A UnicodeEncodeError would quote the secret.
    """
    if HALVES.search(secret):
        raise CredentialsError(
            "the user name or the password is no text that can be sent: log in again"
        )
    return secret.encode("utf-8", "surrogateescape")


def token_requests(
    challenge: Challenge,
    credential: Credential | None,
    scopes: Sequence[str],
    *,
    host: Host,
    is_registry_inside: bool,
) -> tuple[TokenRequest, ...]:
    """What to ask for a Bearer challenge, in the order in which to try it.

    An identity token is POSTed; services that know no OAuth 2 take it as a password. A login goes
    as Basic, which nearly all services know; the others get it by POST.

    Args:
        challenge: of scheme ``bearer``.
        credential: for the registry, and so for the token service that it names.
        scopes: what the token is for.
        host: the registry.
        is_registry_inside: whether the registry is in a loopback, private or link-local network.

    Raises:
        RegistryError: the realm is no URL that a registry at this place may name.
        CredentialsError: the credential cannot be sent.
    """
    realm = challenge.params.get("realm", "")
    place = _place_of(realm, host=host, is_registry_inside=is_registry_inside)
    service = challenge.params.get("service", "")
    url = _url(realm, service, scopes)
    if credential is None or not (credential.identity_token or credential.has_login):
        return (TokenRequest(url, place=place),)
    _check_local(realm, host)
    password = credential.password or credential.identity_token
    got = TokenRequest(url, _basic(credential.username, password), place=place)
    form = _form(credential, service, scopes)
    posted = TokenRequest(urlsplit(realm)._replace(fragment="").geturl(), form=form, place=place)
    return (posted, got) if credential.identity_token else (got, posted)


def _url(realm: str, service: str, scopes: Sequence[str]) -> str:
    parts = urlsplit(realm)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if service:
        query.append(("service", service))
    query += [("scope", scope) for scope in scopes]
    return parts._replace(query=urlencode(query), fragment="").geturl()


def _form(credential: Credential, service: str, scopes: Sequence[str]) -> str:
    if credential.identity_token:
        token = _bytes(credential.identity_token)
        fields = {"grant_type": b"refresh_token", "refresh_token": token}
    else:
        fields = {
            "grant_type": b"password",
            "username": _bytes(credential.username),
            "password": _bytes(credential.password),
        }
    return urlencode(
        {**fields, "service": service, "client_id": CLIENT_ID, "scope": " ".join(scopes)}
    )


def _place_of(realm: str, *, host: Host, is_registry_inside: bool) -> Place:
    """Judges a realm by its text, and says how the address behind it is to be judged."""
    try:
        has_user = "@" in urlsplit(realm).netloc
        # as a connection will read it: a superscript 1 is a 1 there
        target = parse_url(realm).origin
    except (ValueError, RegistryError):
        target, has_user = None, False
    if target is None or not target.port or has_user:
        raise RegistryError(
            f"{host.authority} names a token service that is no http URL: {shown(realm)!r}"
            f"{TELL_OPERATOR}"
        )
    where = shown(realm)
    if CONCEALED in target.host:  # some name servers have an address for any name
        raise RegistryError(
            f"{host.authority} names a token service by what it was sent in confidence, {where}:"
            " nothing is sent there; let no password, nor header in hosts.toml, be a part of a"
            f" host's name{OR_TELL}"
        )
    if target.scheme == "http" and host.scheme == "https":
        raise RegistryError(
            f"{host.authority} names a token service without https, {where}: nothing is sent there"
            f"{TELL_OPERATOR}"
        )
    is_own = target == parse_url(host.url).origin  # which the user has named
    place = place_of(target, host.may_name, may_be_inside=is_own or is_registry_inside)
    if place is Place.OUTSIDE and is_inside(target.host):
        raise refused_inside(
            f"{host.authority} names a token service in a private network, {where}: nothing is"
            " sent there",
            target,
        )
    return place


def _check_local(realm: str, host: Host) -> None:
    """Refuses a login to http on a network, where the registry itself is reached over none."""
    target = parse_url(realm).origin
    is_local = is_loopback(without_port(host.authority))
    if target.scheme == "http" and is_local and not (host.is_plain or is_loopback(target.host)):
        raise RegistryError(
            f"{host.authority} is on this machine and names a token service without https on"
            f" another, {shown(realm)}: no login is sent there; if it is meant so, add"
            f" --plain-http, which no mirror has, nor a registry behind -{OR_TELL}"
        )


def read_token(body: bytes, *, service: str, asked_at: float) -> Token:
    """Reads a token service's answer.

    Args:
        body: JSON with ``token`` or ``access_token``, and ``expires_in`` in seconds.
        service: its URL, fit for messages.
        asked_at: seconds on any clock, before the question was sent: ``renew_at`` is on it too.

    Raises:
        RegistryError: there is no token in it, or one that is too long.
    """
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(
            f"the answer of {service} is not the JSON of a token{TELL_OPERATOR}"
        ) from error
    text = answer.token or answer.access_token or ""
    if not TOKEN_TEXT.fullmatch(text):
        raise RegistryError(
            f"the answer of {service} has no token that a header can carry{TELL_OPERATOR}"
        )
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise RegistryError(
            f"the token of {service} has more than {MAX_TOKEN_CHARACTERS} characters{TELL_OPERATOR}"
        )
    lifetime = _seconds(answer.expires_in)
    return Token(
        f"Bearer {text}",
        renew_at=asked_at + lifetime * TOKEN_RENEWAL_SHARE,
        expires_at=asked_at + lifetime,
    )


def granted_by(authorization: str) -> tuple[str, ...] | None:
    """What a token says that it is for, as scopes; None where it is of no form that is known.

    Tokens are for registries to read, and nothing here relies on what is in them.
    """
    parts = authorization.removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        access = msgspec.json.decode(claims, type=_Claims).access
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    if access is None:
        return None
    scopes = (f"{each.type}:{each.name}:{','.join(each.actions)}" for each in access)
    return tuple(printable(scope, 200) for scope in scopes)


def _seconds(expires_in: float | str | None) -> float:
    try:
        seconds = float(expires_in or 0)
    except ValueError:
        seconds = 0.0
    return seconds if 0 < seconds < math.inf else DEFAULT_TOKEN_LIFETIME_SECONDS
