"""What doctor finds at remotes in every state, over real sockets."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from multi_fetch.cli.checkup import Finding, Verdict
from multi_fetch.cli.doctor import Diagnosis, main
from multi_fetch.testing.faults import (
    Fault,
    answer_error,
    answer_status,
    drop_header,
    ignore_range,
    require_basic,
    require_bearer,
    set_header,
)
from multi_fetch.testing.layout import read_layout
from tests.loopback import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYOUT = Path(__file__).parents[2] / "examples" / "layout"
SECRET = "open-sesame"


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("MULTI_FETCH_", "XDG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def diagnosed(capfd: pytest.CaptureFixture[str], *words: str) -> Diagnosis:
    status = main(["--json", *words])
    out, err = capfd.readouterr()
    assert SECRET not in out + err
    found = msgspec.json.decode(out, type=Diagnosis)
    assert found.exit_status == status
    return found


def folder_name(address: str) -> str:
    """As containerd has it, where colons are no good in paths."""
    return address.replace(":", "_") + "_"


def verdicts(found: Diagnosis) -> dict[str, str]:
    """The worst of each step."""
    worst: dict[str, str] = {}
    for each in found.findings:
        if worst.get(each.step) != "fail":
            worst[each.step] = each.verdict
    return worst


def finding(found: Diagnosis, step: str) -> Finding:
    return next(each for each in reversed(found.findings) if each.step == step)


ALL_STEPS = [
    *("name", "hosts", "proxy", "addresses", "connection", "api"),
    *("tags", "object", "range", "ratelimit", "referrers"),
]


def test_where_all_is_well_every_step_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with loopback(read_layout(LAYOUT)) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    assert found.exit_status == 0
    assert [each.step for each in found.findings] == ALL_STEPS
    assert set(verdicts(found).values()) == {"ok"}
    assert "206" in finding(found, "range").said
    assert "HEAD" in finding(found, "object").said
    assert "demo/app:latest" in finding(found, "object").said


NEGOTIATE = answer_status(401, headers={"WWW-Authenticate": "Negotiate"})
NO_LEFT = set_header("RateLimit-Remaining", "0;w=21600")
NO_NAME = answer_error(404, "NAME_UNKNOWN")
DENIED = answer_error(403, "DENIED")
TOO_MANY = answer_error(429, "TOOMANYREQUESTS")
TAGS, MANIFESTS, BLOBS = "*/tags/*", "*/manifests/*", "*/blobs/*"


@pytest.mark.parametrize(
    ("fault", "step", "verdict", "status", "part"),
    [
        (Fault(answer_status(404), path="/v2/"), "api", "fail", 3, "check that the host"),
        (Fault(answer_status(503), path="/v2/"), "api", "fail", 3, "try again later"),
        (Fault(NEGOTIATE, path="/v2/"), "api", "fail", 3, "are a registry's"),
        (Fault(NO_NAME, path=TAGS), "tags", "fail", 1, "check the name"),
        (Fault(DENIED, path=TAGS), "tags", "fail", 3, "ask for access"),
        (Fault(TOO_MANY, path=TAGS), "tags", "fail", 1, "wait"),
        (Fault(answer_status(405), method="HEAD"), "object", "warn", 0, "operator"),
        (Fault(answer_status(404), path=MANIFESTS), "object", "fail", 1, "check the name"),
        (Fault(ignore_range(), path=BLOBS), "range", "warn", 0, "begins anew"),
        (Fault(answer_status(500), path=BLOBS), "range", "fail", 1, "try again"),
        (Fault(NO_LEFT, path=MANIFESTS), "ratelimit", "warn", 0, "wait"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    capfd: pytest.CaptureFixture[str], fault: Fault, step: str, verdict: str, status: int, part: str
) -> None:
    with loopback(read_layout(LAYOUT), fault) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    assert verdicts(found)[step] == verdict, found
    assert found.exit_status == status
    assert part in finding(found, step).advice
    others = {name: each for name, each in verdicts(found).items() if name != step}
    assert set(others.values()) == {"ok"}


def test_limits_that_are_told_are_told_on(capfd: pytest.CaptureFixture[str]) -> None:
    fault = Fault(set_header("RateLimit-Remaining", "76;w=21600"), path="*/manifests/*")
    with loopback(read_layout(LAYOUT), fault) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    assert finding(found, "ratelimit").said == "ratelimit-remaining: 76;w=21600"


def test_a_registry_without_a_referrers_api_names_the_tag(
    capfd: pytest.CaptureFixture[str],
) -> None:
    fault = Fault(answer_status(404), path="*/referrers/*")
    with loopback(read_layout(LAYOUT), fault) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    assert found.exit_status == 0
    assert "no API (404): the tag sha256-" in finding(found, "referrers").said


def test_an_object_is_looked_at_also_where_no_tags_are_listed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    fault = Fault(answer_status(404), path="*/tags/*")
    with loopback(read_layout(LAYOUT), fault) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app:notes")
    assert (found.exit_status, verdicts(found)["tags"]) == (0, "warn")
    assert "demo/app:notes" in finding(found, "object").said


def test_a_blob_may_be_named(capfd: pytest.CaptureFixture[str]) -> None:
    layout = read_layout(LAYOUT)
    path = next((LAYOUT / "blobs" / "sha256").iterdir())
    with loopback(layout) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app@sha256:{path.name}")
    assert found.exit_status == 0
    assert path.name in finding(found, "object").said


# --- who asks -------------------------------------------------------------------------------


def config(tmp_path: Path, host: str, user: str = "alice") -> Path:
    path = tmp_path / "config.json"
    auth = base64.b64encode(f"{user}:{SECRET}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


def test_a_login_is_named_by_its_file_entry_and_user(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with loopback(read_layout(LAYOUT), Fault(require_basic("alice", SECRET))) as registry:
        path = config(tmp_path, registry.address)
        found = diagnosed(capfd, "--authfile", str(path), f"{registry.address}/demo/app")
    assert found.exit_status == 0
    assert finding(found, "api").said.endswith("401, asks for Basic")
    said = f"{path}, auths.{registry.address}, user 'alice'"
    assert finding(found, "credentials").said == said
    assert verdicts(found)["token"] == "ok"


def test_a_token_is_told_by_its_scopes_and_time(capfd: pytest.CaptureFixture[str]) -> None:
    with loopback(read_layout(LAYOUT), Fault(require_bearer("a.b.c"))) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    assert found.exit_status == 0
    assert "looked for in " in finding(found, "credentials").said
    said = finding(found, "token").said
    assert said.startswith("anonymous, asked for repository:demo/app:pull, expires in ")
    assert "a.b.c" not in said


def token(*granted: tuple[str, str]) -> str:
    """A JSON Web Token for repositories, each with an action."""
    access = [{"type": "repository", "name": name, "actions": [action]} for name, action in granted]
    claims = base64.urlsafe_b64encode(json.dumps({"access": access}).encode()).decode()
    return f"e30.{claims.rstrip('=')}.{SECRET}"


@pytest.mark.parametrize(
    ("text", "verdict", "part"),
    [
        (token(("demo/app", "pull")), "ok", "grants repository:demo/app:pull"),
        (token(("demo/app", "*")), "ok", "grants repository:demo/app:*"),
        (token(), "warn", "grants nothing"),
        (token(("other", "pull")), "warn", "grants repository:other:pull"),
    ],
)
def test_what_a_token_grants_is_read_from_it(
    capfd: pytest.CaptureFixture[str], text: str, verdict: str, part: str
) -> None:
    with loopback(read_layout(LAYOUT), Fault(require_bearer(text))) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    assert verdicts(found)["token"] == verdict
    assert part in finding(found, "token").said


@pytest.mark.parametrize(
    "effect",
    [
        require_basic("alice", "another"),
        require_bearer("t", username="alice", password="another"),
    ],
)
def test_a_wrong_password_makes_the_remote_useless_and_tells_to_log_in(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, effect: object
) -> None:
    with loopback(read_layout(LAYOUT), Fault(effect)) as registry:  # type: ignore[arg-type] # parametrize
        path = config(tmp_path, registry.address)
        found = diagnosed(capfd, "--authfile", str(path), f"{registry.address}/demo/app")
    assert found.exit_status == 3
    last = found.findings[-1]
    assert (last.verdict, last.code) == (Verdict.FAIL, "unauthorized")
    assert last.step in {"token", "tags"}
    assert f"(auths.{registry.address} in {path}) was sent, and " in last.said
    assert last.advice.startswith(f"log in anew, with 'docker login {registry.address}'")
    assert last.advice not in last.said
    assert "ok" not in {each.verdict for each in found.findings if each.step == "token"}


def test_who_has_no_login_is_told_where_it_was_looked_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with loopback(read_layout(LAYOUT), Fault(require_basic("alice", SECRET))) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    last = found.findings[-1]
    assert (last.step, last.code) == ("token", "unauthorized")
    assert f"no login for {registry.address} was given, and none was found in " in last.said
    assert last.advice.startswith(f"log in with 'docker login {registry.address}'")


def test_credentials_of_the_environment_that_are_refused_are_to_be_checked(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTI_FETCH_USERNAME", "alice")
    monkeypatch.setenv("MULTI_FETCH_PASSWORD", "wrong")
    with loopback(read_layout(LAYOUT), Fault(require_basic("alice", SECRET))) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    assert found.findings[-1].advice.startswith("check MULTI_FETCH_USERNAME")


def test_credentials_of_the_environment_come_first(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTI_FETCH_USERNAME", "bob")
    monkeypatch.setenv("MULTI_FETCH_PASSWORD", SECRET)
    with loopback(read_layout(LAYOUT), Fault(require_basic("bob", SECRET))) as registry:
        found = diagnosed(capfd, f"{registry.address}/demo/app")
    assert found.exit_status == 0
    assert finding(found, "credentials").said == "from the environment, user 'bob'"


def test_a_file_of_credentials_that_cannot_be_read_is_named(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    with loopback(read_layout(LAYOUT), Fault(require_bearer("t"))) as registry:
        found = diagnosed(capfd, "--authfile", str(path), f"{registry.address}/demo/app")
    assert found.exit_status == 3
    assert finding(found, "credentials").advice == f"mend or remove {path}"


# --- ways that lead nowhere -----------------------------------------------------------------


@pytest.fixture
def dead_port() -> Iterator[int]:
    # Bound and not listening: it refuses, and nobody else can take the port meanwhile.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def test_a_dead_port(capfd: pytest.CaptureFixture[str], dead_port: int) -> None:
    found = diagnosed(capfd, f"127.0.0.1:{dead_port}/demo/app")
    assert (found.exit_status, found.findings[-1].step) == (3, "connection")
    assert "refused" in found.findings[-1].said
    assert "nothing listens there" in found.findings[-1].advice


def test_a_proxy_that_is_not_there(
    capfd: pytest.CaptureFixture[str], dead_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:{dead_port}")
    found = diagnosed(capfd, "registry.example/app")
    assert (found.exit_status, found.findings[-1].step) == (3, "connection")
    assert finding(found, "proxy").said.startswith(f"http://127.0.0.1:{dead_port} for https://")


def test_a_proxy_that_is_none(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    found = diagnosed(capfd, "registry.example/app")
    assert (found.exit_status, found.findings[-1].step) == (3, "proxy")
    assert "HTTPS_PROXY" in found.findings[-1].advice


def test_https_where_only_http_is_spoken(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with loopback(read_layout(LAYOUT)) as registry:
        folder = tmp_path / folder_name(registry.address) / "hosts.toml"
        folder.parent.mkdir()
        folder.write_text(f'server = "https://{registry.address}"\n')
        found = diagnosed(capfd, "--hosts-dir", str(tmp_path), f"{registry.address}/demo/app")
    assert (found.exit_status, found.findings[-1].step) == (3, "tls")
    assert "--plain-http" in found.findings[-1].advice
    assert str(folder.parent) in finding(found, "hosts").said


def test_settings_that_cannot_be_read_are_wrong_usage(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "registry.example").mkdir()
    (tmp_path / "registry.example" / "hosts.toml").write_text("[")
    found = diagnosed(capfd, "--hosts-dir", str(tmp_path), "registry.example/app")
    assert (found.exit_status, found.findings[-1].step) == (2, "hosts")
    assert "hosts.toml" in found.findings[-1].said


def test_a_dead_mirror_fails_and_the_registry_itself_is_looked_at_too(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, dead_port: int
) -> None:
    with loopback(read_layout(LAYOUT)) as registry:
        folder = tmp_path / folder_name(registry.address)
        folder.mkdir()
        (folder / "hosts.toml").write_text(f'[host."http://127.0.0.1:{dead_port}"]\n')
        found = diagnosed(capfd, "--hosts-dir", str(tmp_path), f"{registry.address}/demo/app")
    assert found.exit_status == 1
    by_host = {(each.host, each.step): each.verdict for each in found.findings}
    assert by_host[f"http://127.0.0.1:{dead_port}", "connection"] == "fail"
    assert by_host[f"http://{registry.address}", "object"] == "ok"
    assert "(mirror, pull and resolve)" in finding(found, "hosts").said


@pytest.mark.parametrize("named", ["", ":notes", "@"])
def test_a_mirror_that_may_only_pull_is_asked_for_what_the_registry_says_by_its_digest(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, named: str
) -> None:
    layout = read_layout(LAYOUT)
    if named == "@":
        path = next((LAYOUT / "blobs" / "sha256").iterdir())
        named = f"@sha256:{path.name}"
    with loopback(layout) as mirror, loopback(layout) as registry:
        folder = tmp_path / folder_name(registry.address)
        folder.mkdir()
        text = f'[host."http://{mirror.address}"]\ncapabilities = ["pull"]\n'
        (folder / "hosts.toml").write_text(text)
        remote = f"{registry.address}/demo/app{named}"
        found = diagnosed(capfd, "--hosts-dir", str(tmp_path), remote)
        asked = [request.path for request in mirror.requests]
    assert found.exit_status == 0, found
    assert set(verdicts(found).values()) == {"ok"}
    of_mirror = {
        each.step: each.said for each in found.findings if each.host.endswith(mirror.address)
    }
    assert "resolve" in of_mirror["tags"]
    assert "sha256:" in of_mirror["object"]
    assert "206" in of_mirror["range"]
    assert "referrers" not in of_mirror
    assert {path.partition("sha256:")[0] for path in asked} <= {
        "/v2/",
        "/v2/demo/app/manifests/",
        "/v2/demo/app/blobs/",
    }


def test_a_mirror_that_may_only_pull_and_refuses_that_is_of_no_use(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    layout = read_layout(LAYOUT)
    denied = [Fault(answer_error(403, "DENIED"), path=path) for path in (MANIFESTS, BLOBS)]
    with loopback(layout, *denied) as mirror, loopback(layout) as registry:
        folder = tmp_path / folder_name(registry.address)
        folder.mkdir()
        text = f'[host."http://{mirror.address}"]\ncapabilities = ["pull"]\n'
        (folder / "hosts.toml").write_text(text)
        found = diagnosed(capfd, "--hosts-dir", str(tmp_path), f"{registry.address}/demo/app")
    assert found.exit_status == 1
    by_host = {(each.host, each.step): each.verdict for each in found.findings}
    assert by_host[f"http://{mirror.address}", "object"] == "fail"
    assert by_host[f"http://{registry.address}", "object"] == "ok"


def test_where_nobody_says_what_a_tag_stands_for_no_object_is_asked_for(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    layout = read_layout(LAYOUT)
    refused = Fault(answer_status(404), path="/v2/demo/*")
    with loopback(layout) as mirror, loopback(layout, refused) as registry:
        folder = tmp_path / folder_name(registry.address)
        folder.mkdir()
        text = f'[host."http://{mirror.address}"]\ncapabilities = ["pull"]\n'
        (folder / "hosts.toml").write_text(text)
        found = diagnosed(capfd, "--hosts-dir", str(tmp_path), f"{registry.address}/demo/app")
        asked = [request.path for request in mirror.requests]
    assert found.exit_status == 1
    assert set(asked) == {"/v2/"}
    assert "no digest is known" in finding(found, "object").said


def test_the_timeout_is_a_finding(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = diagnosed(capfd, "--timeout", "300ms", f"127.0.0.1:{port}/demo/app")
    assert found.exit_status == 3
    assert (found.findings[-1].step, found.findings[-1].code) == ("timeout", "timeout")


# --- for people -----------------------------------------------------------------------------


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("multi-fetch")), "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_people_get_a_line_a_step_and_the_way_on(dead_port: int) -> None:
    done = doctor(f"127.0.0.1:{dead_port}/demo/app")
    assert (done.returncode, done.stderr) == (3, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"ok    name        127.0.0.1:{dead_port}/demo/app"
    assert lines[2] == f"http://127.0.0.1:{dead_port}"
    assert lines[-2].startswith("fail  connection  no connection to 127.0.0.1:")
    assert lines[-1].strip().startswith("-> nothing listens there")


def test_a_layout_is_looked_through() -> None:
    done = doctor(f"oci:{LAYOUT}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 manifests verified; 7 blobs" in done.stdout


def test_wrong_usage_is_told() -> None:
    for words in ([], ["UPPER/x/Y"], ["a", "b"]):
        done = doctor(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage: multi-fetch doctor" in done.stderr


def test_who_reads_no_further_harms_nobody() -> None:
    command = f"{Path(sys.executable).with_name('multi-fetch')} doctor oci:{LAYOUT} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_missing_digest_header_is_no_matter(capfd: pytest.CaptureFixture[str]) -> None:
    fault = Fault(drop_header("Docker-Content-Digest"))
    with loopback(read_layout(LAYOUT), fault) as registry:
        assert diagnosed(capfd, f"{registry.address}/demo/app").exit_status == 0
