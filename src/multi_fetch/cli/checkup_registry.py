"""Steps of ``multi-fetch doctor`` at a registry's host, or at a mirror's, by the registry's rooms.

Each request is sent once: what would pass with patience is to be seen.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.cli.checkup_login import check_credentials, tell_grant
from multi_fetch.cli.checkup_network import check_network
from multi_fetch.errors import MultiFetchError, RegistryError
from multi_fetch.limits import MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES
from multi_fetch.oci.digest import Digest
from multi_fetch.oci.manifest import is_manifest, parse_manifest
from multi_fetch.oci.media_types import OCI_INDEX
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.api import (
    Endpoint,
    candidates_for_digest,
    candidates_for_tag,
    content_type,
)
from multi_fetch.registry.auth import choose_challenge
from multi_fetch.registry.credentials import Credential, Keychain
from multi_fetch.registry.exchanges import open_exchange
from multi_fetch.registry.fetcher import first_answer
from multi_fetch.registry.pages import fallback_tag, referrers_path
from multi_fetch.registry.proxies import Proxies
from multi_fetch.registry.resolver import RegistryRemote
from multi_fetch.registry.session import Session
from multi_fetch.registry.url import Url, parse_url, shown
from multi_fetch.remotes import Patience
from multi_fetch.verify import Verifier, hold
from multi_fetch.worker.job import REMOTE_CODES

if TYPE_CHECKING:
    from multi_fetch.cli.checkup import Checkup
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.exchange import Exchange
    from multi_fetch.registry.hosts import Host

# Half a step's time, so that what stalls is told by its own words.
STALL_SECONDS: Final = 5.0

MAX_TOLD_TAGS: Final = 5

RANGE_HEADER: Final = "bytes=0-0"


class Asking(msgspec.Struct):
    """What a checkup is about, at all hosts.

    Attributes:
        ref: the repository, and an object if one was named.
        credential: from the environment; None for none.
        keychain: for all else.
        proxies: the environment's.
        digest: of the object, once a host has said what its tag stands for; or None.
    """

    ref: Reference
    credential: Credential | None
    keychain: Keychain
    proxies: Proxies
    digest: Digest | None = None


async def check_host(checkup: Checkup, host: Host, asking: Asking) -> bool:
    """Takes all steps at a host; tells whether objects can be fetched from it."""
    own = None if host.namespace else asking.credential  # no mirror is told the registry's
    if not await check_network(checkup, host, asking.proxies):
        return False
    patience = Patience(retries=0, stall_seconds=STALL_SECONDS)
    async with open_exchange(host, jobs=1, patience=patience, proxies=asking.proxies) as exchange:
        wants_login = await checkup.take("api", lambda: _check_api(checkup, exchange, host))
        if wants_login is None:
            return False
        repository = asking.ref.repository
        if wants_login and not await check_credentials(
            checkup, host, own, asking.keychain, repository
        ):
            return False
        session = Session(exchange, host, own, repository, keychain=asking.keychain)
        return await _Objects(checkup, session, host, asking).check()


async def _check_api(checkup: Checkup, exchange: Exchange, host: Host) -> bool:
    """Whether the registry wants to know who asks (distribution-spec, "Determining Support")."""
    url = Url(parse_url(host.url).origin, host.target("/v2/"))
    answer = await exchange.follow("GET", url, {}, "")
    try:
        if answer.status == 200:
            checkup.ok("api", f"{answer.what}: 200, whoever asks")
            return False
        if answer.status == 404:
            raise RegistryError(f"{answer.what}: 404: no registry answers there", status=404)
        if answer.status != 401:
            raise await answer.error()
        challenge = choose_challenge(answer.challenges())
        if challenge is None:
            raise RegistryError(f"{answer.what}: 401 without a challenge that is known here")
        realm = challenge.params.get("realm", "")
        where = f" from {shown(realm)}" if challenge.scheme == "bearer" else ""
        checkup.ok("api", f"{answer.what}: 401, asks for {challenge.scheme.title()}{where}")
    finally:
        await answer.aclose()
    return True


class _Objects:
    """The steps in a repository."""

    def __init__(self, checkup: Checkup, session: Session, host: Host, asking: Asking) -> None:
        self._checkup = checkup
        self._session = session
        self._host = host
        self._asking = asking
        self._ref = asking.ref
        self._remote = RegistryRemote(session, asking.ref)

    async def check(self) -> bool:
        """Tells whether the repository is of use, though perhaps not for the object named."""
        if not self._host.may_resolve:
            return await self._check_content()
        checkup = self._checkup
        tags, failure = await self._tags()
        grant = self._session.grant
        is_refused = failure is not None and failure.code == "unauthorized"
        # A login goes to the registry itself by Basic: then there is no token to tell of.
        is_unknown = is_refused and (grant is None or grant.scheme == "Basic")
        if grant is not None and not is_unknown:
            tell_grant(checkup, grant, self._ref.repository)
        if failure is None:
            checkup.ok("tags", _told(tags))
        elif self._ref.object and failure.code not in REMOTE_CODES:
            checkup.warn(
                "tags", f"no list: {failure.message}", "ask for tags and digests by their names"
            )
        else:
            checkup.fail_by("token" if is_unknown else "tags", failure)
            return failure.code not in REMOTE_CODES
        name = self._ref.object or ("latest" if "latest" in tags else "".join(tags[:1]))
        if not name:
            return True
        ref = self._ref if self._ref.object else Reference(self._ref.locator, name)
        descriptor = await checkup.take("object", lambda: self._object(ref))
        if descriptor is None:
            return failure is None
        self._asking.digest = descriptor.digest
        if self._host.may_pull:
            await checkup.take("range", lambda: self._range(descriptor))
        self._ratelimit()
        await checkup.take("referrers", lambda: self._referrers(descriptor))
        return True

    async def _check_content(self) -> bool:
        """At a host that is asked for content by its digest, and for nothing else."""
        checkup = self._checkup
        checkup.ok("tags", "not asked for here: the host's capabilities have no resolve")
        digest = self._ref.digest or self._asking.digest
        if not self._host.may_pull or not digest:
            checkup.ok("object", "none to ask for here, where no digest is known")
            return self._host.may_pull
        ref = Reference(self._ref.locator, f"@{digest}")
        descriptor = await checkup.take("object", lambda: self._object(ref))
        if self._session.grant is not None:
            tell_grant(checkup, self._session.grant, self._ref.repository)
        if descriptor is None:
            return False
        await checkup.take("range", lambda: self._range(descriptor))
        self._ratelimit()
        return True

    async def _tags(self) -> tuple[list[str], MultiFetchError | None]:
        """The first page of tags, or why there is none."""
        tags: list[str] = []
        failure: MultiFetchError | None = None

        async def look() -> None:
            nonlocal failure
            try:
                async with aclosing(self._remote.tags(self._ref)) as pages:
                    async for page in pages:
                        tags.extend(page)
                        break
            except MultiFetchError as error:
                failure = error

        await self._checkup.take("tags", look)
        return tags, failure

    async def _object(self, ref: Reference) -> Descriptor:
        """A HEAD; a GET where that is refused."""
        resolved = await self._remote.resolve(ref)
        descriptor = resolved.descriptor
        said = f"{ref}: {descriptor.media_type}, {descriptor.size} bytes, {descriptor.digest}"
        candidates = candidates_for_tag(ref.repository, ref.tag)
        if ref.digest:
            endpoint = Endpoint.MANIFESTS if is_manifest(descriptor.media_type) else Endpoint.BLOBS
            candidates = candidates_for_digest(ref.repository, descriptor.digest, endpoint)
        try:
            async with first_answer(self._session, "HEAD", candidates):
                self._checkup.ok("object", f"HEAD {said}")
        except MultiFetchError as error:
            self._checkup.warn(
                "object",
                f"GET {said}; a HEAD failed: {error.message}",
                "tell the registry's operator: each descriptor costs its content",
            )
        return descriptor

    async def _range(self, descriptor: Descriptor) -> None:
        """The first byte of a blob."""
        blob = await self._blob(descriptor)
        if blob is None:
            self._checkup.ok("range", "there is no blob to ask a part of")
            return
        (candidate, _) = candidates_for_digest(self._ref.repository, blob.digest, Endpoint.BLOBS)
        headers = {"Accept": candidate.accept, "Range": RANGE_HEADER}
        async with self._session.request("GET", candidate.path, headers) as answer:
            if answer.status == 206:
                self._checkup.ok("range", f"206 for the first byte of {blob.digest}{_from(answer)}")
            elif answer.status == 200:
                self._checkup.warn(
                    "range",
                    f"the whole of {blob.digest} was sent{_from(answer)}",
                    "nothing can be done here: a body that breaks off begins anew",
                )
            else:
                raise await answer.error()

    async def _blob(self, descriptor: Descriptor) -> Descriptor | None:
        """A blob with content, at or below what was found."""
        found: Descriptor | None = descriptor
        for _ in range(MAX_INDEX_DEPTH + 1):
            if found is None or not is_manifest(found.media_type):
                return found
            ref = Reference(self._ref.locator, f"@{found.digest}")
            async with self._remote.open(ref, media_types=(found.media_type,)) as opened:
                verifier = Verifier(opened.descriptor.digest, opened.descriptor.size)
                content, _ = await hold(opened.chunks, verifier, MAX_MANIFEST_BYTES)
            children = parse_manifest(content, found.media_type).children()
            found = next((each for each in children if each.size and not each.urls), None)
        return None

    def _ratelimit(self) -> None:
        told = self._session.ratelimit
        said = ", ".join(f"{name}: {value}" for name, value in told.items())
        left = (value for name, value in told.items() if name.endswith("remaining"))
        if any(value.partition(";")[0] == "0" for value in left):
            self._checkup.warn("ratelimit", said, "wait a while; a login often has a higher limit")
        else:
            self._checkup.ok("ratelimit", said or "the registry tells of none")

    async def _referrers(self, descriptor: Descriptor) -> None:
        path = referrers_path(self._ref.repository, descriptor.digest, "")
        async with self._session.request("GET", path, {"Accept": OCI_INDEX}) as answer:
            if answer.status == 200 and content_type(answer.headers) == OCI_INDEX:
                self._checkup.ok("referrers", "the registry has the referrers API")
            else:
                tag = fallback_tag(descriptor.digest)
                self._checkup.ok(
                    "referrers", f"no API ({answer.status}): the tag {tag} stands in for it"
                )


def _told(tags: list[str]) -> str:
    if not tags:
        return "the repository has none"
    more = ", ..." if len(tags) > MAX_TOLD_TAGS else ""
    return f"{len(tags)} on the first page: {', '.join(tags[:MAX_TOLD_TAGS])}{more}"


def _from(answer: Answer) -> str:
    """Where it came from, where the registry had sent us on."""
    return f", at {answer.url.origin}"
