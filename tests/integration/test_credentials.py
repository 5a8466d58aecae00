"""The real commands at real registries that want a password, or a token of a token service.

No output of theirs ever holds a secret, at the most talkative log level.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.integration.conftest import require
from tests.integration.docker_registry import COMMAND, READER, docker_registry
from tests.integration.token_server import TokenServer, token_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.docker_registry import DockerRegistry
    from tests.integration.push import Filled

pytestmark = pytest.mark.integration

FETCH_OBJECT: Final = str(Path(sys.executable).with_name("fetch-object"))
MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


CONTENT: Final = b"what only some may read"
MANY: Final = [CONTENT, *(f"what only some may read, {n}".encode() for n in range(1, 20))]
STALE: Final = "a-stale-password"
PASSWORD: Final = "open-sesame-2"
IDENTITY: Final = "an-identity-token"
DIGEST: Final = digest(CONTENT)
SECRETS: Final = (READER.password, STALE, PASSWORD, IDENTITY)


def auth(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


class Home:
    """A user's home folder, and the commands run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / ".docker").mkdir()

    def config(self, **document: object) -> Path:
        path = self.folder / ".docker" / "config.json"
        path.write_text(json.dumps(document))
        return path

    def login(self, registry: str, username: str, password: str) -> Path:
        return self.config(auths={registry: {"auth": auth(username, password)}})

    def install(self, script: str) -> None:
        path = self.folder / "bin" / "docker-credential-test"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        left_out = ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
        environment = {name: text for name, text in os.environ.items() if name not in left_out}
        environment["HOME"] = str(self.folder)
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            words, capture_output=True, env={**environment, **variables}, check=False, timeout=60
        )
        output = done.stdout + done.stderr
        for secret in SECRETS:
            for form in (secret, auth("reader", secret), auth("", secret)):
                assert form.encode() not in output
        assert b"Traceback" not in output
        return done

    def fetch(self, *words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        return self.run(FETCH_OBJECT, "--retries", "0", "--log-level", "debug", *words, **variables)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# --- a registry with passwords --------------------------------------------------------------


def test_a_login_of_docker_is_found_and_used(
    home: Home, private_registry: DockerRegistry, private_filled: Filled
) -> None:
    home.login(private_registry.address, READER.username, READER.password)
    tag, manifest = next(iter(private_filled.tags.items()))
    done = home.fetch(f"{private_registry.address}/{private_filled.repository}:{tag}")
    assert (done.returncode, done.stdout) == (0, manifest.content)


def test_podmans_file_comes_before_dockers_and_its_longest_key_wins(
    home: Home, private_registry: DockerRegistry, private_filled: Filled
) -> None:
    home.login(private_registry.address, "nobody", STALE)
    podman = home.folder / ".config" / "containers" / "auth.json"
    podman.parent.mkdir(parents=True)
    name = f"{private_registry.address}/{private_filled.repository}"
    auths = {
        private_registry.address: {"auth": auth("nobody", STALE)},
        name: {"auth": auth(READER.username, READER.password)},
    }
    podman.write_text(json.dumps({"auths": auths}))
    tag, manifest = next(iter(private_filled.tags.items()))
    done = home.fetch(f"{name}:{tag}")
    assert (done.returncode, done.stdout) == (0, manifest.content)


def test_each_way_comes_before_the_next(
    home: Home, private_registry: DockerRegistry, private_filled: Filled
) -> None:
    """MULTI_FETCH_USERNAME, then --authfile, then REGISTRY_AUTH_FILE, then DOCKER_CONFIG."""
    tag, manifest = next(iter(private_filled.tags.items()))
    ref = f"{private_registry.address}/{private_filled.repository}:{tag}"
    good = home.login(private_registry.address, READER.username, READER.password)
    good = good.rename(good.with_name("good.json"))
    (home.folder / "good").mkdir()
    (home.folder / "good" / "config.json").write_text(good.read_text())
    bad = home.login(private_registry.address, "nobody", STALE)
    login = {"MULTI_FETCH_USERNAME": READER.username, "MULTI_FETCH_PASSWORD": READER.password}
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--authfile", str(bad)], {"REGISTRY_AUTH_FILE": str(bad), **login}),
        (["--authfile", str(good)], {"REGISTRY_AUTH_FILE": str(bad)}),
        ([], {"REGISTRY_AUTH_FILE": str(good), "DOCKER_CONFIG": str(bad.parent)}),
        ([], {"DOCKER_CONFIG": str(home.folder / "good")}),
    ]
    for words, variables in ways:
        done = home.fetch(*words, ref, **variables)
        assert (done.returncode, done.stdout) == (0, manifest.content), (words, variables)
    assert home.fetch(ref).returncode == 3
    assert home.fetch("--authfile", str(bad), ref, DOCKER_CONFIG=str(good)).returncode == 3


def test_whoever_is_not_let_in_is_told_which_login_was_refused_or_where_none_was_found(
    home: Home, private_registry: DockerRegistry
) -> None:
    address = private_registry.address
    config = home.login(address, READER.username, STALE)
    given = {"MULTI_FETCH_USERNAME": READER.username, "MULTI_FETCH_PASSWORD": STALE}
    refused = "was sent, and the registry refused it"
    cases: list[tuple[dict[str, str], str]] = [
        ({}, f"the login for {address} (auths.{address} in {config}) {refused}; log in anew"),
        (given, f"the login that was given for {address} {refused}; check MULTI_FETCH_USERNAME"),
    ]
    for variables, said in cases:
        assert said in told(home.fetch(f"{address}/a:v1", **variables))
    home.config(credsStore="test")
    home.install(f"""echo '{{"Username": "reader", "Secret": "{STALE}"}}'""")
    said = f"(of docker-credential-test, which {config} names) {refused}; log in anew"
    assert said in told(home.fetch(f"{address}/a:v1"))
    home.config(credsStore="test")
    home.install(f"""echo '{{"Username": "<token>", "Secret": "{IDENTITY}"}}'""")
    said = "has no user name and password, which the registry asks for"
    assert said in told(home.fetch(f"{address}/a:v1"))
    config.unlink()
    said = told(home.fetch(f"{address}/a:v1"))
    assert f"no login for {address} was given, and none was found in " in said
    assert str(config) in said
    assert f"docker login {address}" in said


def told(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last line of stderr, of a request that was not let in."""
    assert done.returncode == 3
    line = done.stderr.decode().splitlines()[-1]
    assert "code=unauthorized" in line
    assert READER.username not in line
    return line


def test_a_helper_whose_login_has_grown_stale_is_asked_again(
    home: Home, private_registry: DockerRegistry, private_filled: Filled
) -> None:
    home.config(credHelpers={private_registry.address: "test"})
    home.install(
        'cat >> "$0.log"; echo >> "$0.log"\n'
        f'secret="{STALE}"; test -e "$0.once" && secret="{READER.password}"; touch "$0.once"\n'
        f'echo "{{\\"Username\\": \\"{READER.username}\\", \\"Secret\\": \\"$secret\\"}}"'
    )
    tag, manifest = next(iter(private_filled.tags.items()))
    done = home.fetch(f"{private_registry.address}/{private_filled.repository}:{tag}")
    assert (done.returncode, done.stdout) == (0, manifest.content)
    asked = (home.folder / "bin" / "docker-credential-test.log").read_text()
    assert asked == f"{private_registry.address}\n" * 2


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"echo {STALE}; echo {STALE} >&2; exit 1", "docker-credential-test failed with status 1"),
        (f"echo {STALE}", "docker-credential-test ended well, but wrote no JSON"),
        ("exit 1", "docker-credential-test failed"),
        ("", "docker-credential-test ended well"),
        (None, "docker-credential-test cannot be started: No such file"),
    ],
)
def test_a_helper_that_fails_is_the_requests_error(
    home: Home, private_registry: DockerRegistry, script: str | None, said: str
) -> None:
    home.config(credsStore="test")
    if script is not None:
        home.install(script)
    done = home.fetch(f"{private_registry.address}/a:v1")
    assert done.returncode == 3
    assert said in done.stderr.decode()
    assert b"code=unauthorized" in done.stderr


def test_a_malformed_file_is_the_requests_error_with_its_name_and_key(
    home: Home, private_registry: DockerRegistry
) -> None:
    path = home.config(auths={"r.example": {"auth": f"{STALE}!"}})
    done = home.fetch(f"{private_registry.address}/a:v1")
    assert done.returncode == 3
    assert f"{path} is malformed at 'auths.r.example'" in done.stderr.decode()


def test_a_file_that_nobody_needs_is_not_read(
    home: Home, registry: DockerRegistry, filled: Filled
) -> None:
    home.config().write_text("{")
    tag, manifest = next(iter(filled.tags.items()))
    done = home.fetch(f"{registry.address}/{filled.repository}:{tag}")
    assert (done.returncode, done.stdout) == (0, manifest.content)


# --- a registry with a token service --------------------------------------------------------


@pytest.fixture(scope="module")
def tokens(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[TokenServer, DockerRegistry]]:
    require(COMMAND)
    folder = tmp_path_factory.mktemp("tokens")
    with (
        token_server() as server,
        docker_registry(folder, auth=server.registry_auth(folder)) as running,
    ):
        for repository in ("open/app", "closed/app"):
            push(server, running, repository)
        yield server, running


def push(server: TokenServer, registry: DockerRegistry, repository: str) -> None:
    token = server.signer.sign("pusher", [f"repository:{repository}:pull,push"])
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=registry.url, headers=headers, trust_env=False) as client:
        for content in MANY:
            begun = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
            where = httpx.URL(begun.headers["Location"]).copy_add_param("digest", digest(content))
            client.put(where, content=content).raise_for_status()


@pytest.fixture
def server(tokens: tuple[TokenServer, DockerRegistry]) -> TokenServer:
    """The token service as it is at first."""
    server, _ = tokens
    server.users = {"reader": PASSWORD}
    server.refresh_tokens = {IDENTITY}
    server.public = {"open/app"}
    server.knows_post, server.expires_in = True, None
    server.questions.clear()
    return server


@pytest.fixture
def address(tokens: tuple[TokenServer, DockerRegistry]) -> str:
    return tokens[1].address


def asked(server: TokenServer) -> list[tuple[str, str, int]]:
    return [(each.method, each.login, each.status) for each in server.questions]


def test_a_public_repository_is_pulled_with_an_anonymous_token(
    home: Home, server: TokenServer, address: str
) -> None:
    done = home.fetch(f"{address}/open/app@{DIGEST}")
    assert (done.returncode, done.stdout) == (0, CONTENT)
    assert asked(server) == [("GET", "", 200)]
    assert server.questions[0].scopes == ("repository:open/app:pull",)


def test_a_private_repository_is_refused_to_nobody(
    home: Home, server: TokenServer, address: str
) -> None:
    said = told(home.fetch(f"{address}/closed/app@{DIGEST}"))
    assert f"no login for {address} was given, and none was found in " in said
    assert "; the registry refused an anonymous token; log in with 'docker login" in said


def test_a_login_that_does_not_suffice_is_told_so(
    home: Home, server: TokenServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = home.login(address, "reader", PASSWORD)
    sign = server.signer.sign
    monkeypatch.setattr(server.signer, "sign", lambda user, _: sign(user, []))
    said = told(home.fetch(f"{address}/closed/app@{DIGEST}"))
    assert f"(auths.{address} in {config}) was sent, and the token that it got was refused" in said
    assert "; ask for access" in said


def test_a_registry_token_that_is_refused_is_told_so(
    home: Home, server: TokenServer, address: str
) -> None:
    config = home.config(auths={address: {"registrytoken": STALE}})
    said = told(home.fetch(f"{address}/closed/app@{DIGEST}"))
    assert f"(auths.{address} in {config}) was sent, and the registry refused it" in said
    assert asked(server) == [("GET", "", 200)]


def test_a_login_gets_a_token_for_a_private_repository(
    home: Home, server: TokenServer, address: str
) -> None:
    home.login(address, "reader", PASSWORD)
    done = home.fetch(f"{address}/closed/app@{DIGEST}")
    assert (done.returncode, done.stdout) == (0, CONTENT)
    assert asked(server) == [("GET", f"reader:{PASSWORD}", 200)]


@pytest.mark.parametrize("knows_post", [True, False])
def test_an_identity_token_is_posted_or_sent_as_a_password(
    home: Home, server: TokenServer, address: str, knows_post: bool
) -> None:
    server.knows_post = knows_post
    home.config(auths={address: {"identitytoken": IDENTITY}})
    done = home.fetch(f"{address}/closed/app@{DIGEST}")
    assert (done.returncode, done.stdout) == (0, CONTENT)
    posted = ("POST", f"refresh:{IDENTITY}", 200 if knows_post else 404)
    assert asked(server) == [posted, *([] if knows_post else [("GET", f":{IDENTITY}", 200)])]


def test_a_helpers_token_user_is_an_identity_token(
    home: Home, server: TokenServer, address: str
) -> None:
    home.config(credsStore="test")
    home.install(f"""echo '{{"Username": "<token>", "Secret": "{IDENTITY}"}}'""")
    done = home.fetch(f"{address}/closed/app@{DIGEST}")
    assert (done.returncode, done.stdout) == (0, CONTENT)
    assert asked(server) == [("POST", f"refresh:{IDENTITY}", 200)]


def test_a_registrys_own_token_is_sent_to_it_and_asks_nobody(
    home: Home, server: TokenServer, address: str
) -> None:
    token = server.signer.sign("reader", ["repository:closed/app:pull"])
    home.config(auths={address: {"registrytoken": token}})
    done = home.fetch(f"{address}/closed/app@{DIGEST}")
    assert (done.returncode, done.stdout) == (0, CONTENT)
    assert server.questions == []
    assert token.encode() not in done.stderr


def test_a_stale_login_gives_way_on_a_public_repository_with_a_warning(
    home: Home, server: TokenServer, address: str
) -> None:
    home.login(address, "reader", STALE)
    done = home.fetch(f"{address}/open/app@{DIGEST}")
    assert (done.returncode, done.stdout) == (0, CONTENT)
    assert b"the login was refused: going on anonymously" in done.stderr
    assert asked(server) == [("GET", f"reader:{STALE}", 401), ("GET", "", 200)]


def test_a_stale_login_is_the_reason_on_a_private_repository(
    home: Home, server: TokenServer, address: str
) -> None:
    config = home.login(address, "reader", STALE)
    said = told(home.fetch(f"{address}/closed/app@{DIGEST}"))
    assert "no such login; the login for" in said
    assert f"(auths.{address} in {config}) was sent, and the token service refused it" in said


@pytest.mark.parametrize("expires_in", ["0.001", 1, "soon", None])
def test_a_batch_renews_its_tokens_on_the_way(
    home: Home, server: TokenServer, address: str, expires_in: int | str | None
) -> None:
    server.expires_in = expires_in
    home.login(address, "reader", PASSWORD)
    requests = home.folder / "requests"
    lines = (f"{digest(content)} mediatype:application/octet-stream\n" for content in MANY)
    requests.write_text("".join(lines))
    done = home.run(
        "/bin/sh", "-c", f'exec "{MULTI_FETCH}" --jobs 1 "{address}/closed/app" < "{requests}"'
    )
    assert done.returncode == 0, done.stderr
    assert all(content in done.stdout for content in MANY)
    assert {each.status for each in server.questions} == {200}
    if expires_in == "0.001":
        assert len(server.questions) > 1
    elif expires_in != 1:
        assert len(server.questions) == 1
