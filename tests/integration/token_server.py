"""A token service for docker-registry's ``auth: token`` mode: Docker's token protocol, whole.

It signs JSON Web Tokens with a key whose certificate the registry trusts (distribution's docs,
spec/auth/jwt.md), knows users, refresh tokens and public repositories, and keeps a log of what it
was asked and with which secrets.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SERVICE: Final = "registry.test"
ISSUER: Final = "token-server.test"

AUTH = """\
auth:
  token:
    realm: {realm}
    service: {service}
    issuer: {issuer}
    rootcertbundle: {bundle}
"""


class Signer:
    """A key, and the certificate by which the registry knows it."""

    def __init__(self) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert(ISSUER)
        self.bundle = authority.cert_pem.bytes()
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        lines = leaf.cert_chain_pems[0].bytes().decode().strip().splitlines()
        self._certificate = "".join(lines[1:-1])

    def sign(self, user: str, scopes: Sequence[str], lifetime_seconds: int = 300) -> str:
        """A token for all of the scopes: ``repository:<name>:<action>,<action>``."""
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 10,
            "exp": now + lifetime_seconds,
            "jti": f"{time.monotonic_ns()}",
            "access": access,
        }
        header = {"typ": "JWT", "alg": "ES256", "x5c": [self._certificate]}
        text = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Question:
    """What was asked, in clear text.

    Attributes:
        method: GET or POST.
        scopes: what for.
        login: ``user:password``, ``refresh:<token>``, or empty.
        status: of the answer.
    """

    method: str
    scopes: tuple[str, ...]
    login: str
    status: int


@dataclass
class TokenServer:
    """A running token service.

    Attributes:
        signer: of its tokens.
        url: the realm.
        users: user names to passwords; whoever is known may pull everything.
        refresh_tokens: those that are accepted.
        public: repositories that anybody may pull from.
        knows_post: whether it knows OAuth 2.
        expires_in: what it says of a token's life; None for nothing.
        questions: all so far.
    """

    signer: Signer
    url: str = ""
    users: dict[str, str] = field(default_factory=dict)
    refresh_tokens: set[str] = field(default_factory=set)
    public: set[str] = field(default_factory=set)
    knows_post: bool = True
    expires_in: int | str | None = None
    questions: list[Question] = field(default_factory=list)

    def answer(self, method: str, query: str, authorization: str) -> tuple[int, dict[str, object]]:
        """The answer to a question, logged."""
        fields = parse_qs(query)
        login, is_known = self._login(fields, authorization)
        scopes = tuple(word for words in fields.get("scope", []) for word in words.split())
        status = 200 if is_known or not login else 401
        if method == "POST" and not self.knows_post:
            status = 404
        self.questions.append(Question(method, scopes, login, status))
        if status != 200:
            return status, {"errors": [{"code": "UNAUTHORIZED", "message": "no such login"}]}
        allowed = [scope for scope in scopes if is_known or scope.split(":")[1] in self.public]
        token = self.signer.sign("somebody", allowed)
        answer: dict[str, object] = {"access_token" if method == "POST" else "token": token}
        if self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        return 200, answer

    def _login(self, fields: dict[str, list[str]], authorization: str) -> tuple[str, bool]:
        if token := fields.get("refresh_token"):
            return f"refresh:{token[0]}", token[0] in self.refresh_tokens
        if "password" in fields:
            pair = f"{fields['username'][0]}:{fields['password'][0]}"
        else:
            pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        user, _, password = pair.partition(":")
        is_known = bool(pair) and (
            self.users.get(user) == password or (not user and password in self.refresh_tokens)
        )
        return pair, is_known

    def registry_auth(self, directory: Path) -> str:
        """The section of docker-registry's configuration; writes the certificate it names."""
        bundle = directory / "bundle.pem"
        bundle.write_bytes(self.signer.bundle)
        return AUTH.format(realm=self.url, service=SERVICE, issuer=ISSUER, bundle=bundle)


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """A token service on a free loopback port."""
    server = TokenServer(Signer())

    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET", urlsplit(self.path).query)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._answer("POST", self.rfile.read(length).decode())

        def _answer(self, method: str, query: str) -> None:
            status, document = server.answer(method, query, self.headers.get("Authorization", ""))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.url = f"http://127.0.0.1:{listener.server_address[1]}/token"
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
