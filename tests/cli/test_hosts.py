"""The flags of hosts, and the environment's proxies: what they come to."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from multi_fetch.cli import hosts as hosts_module
from multi_fetch.cli.hosts import Reach, add_host_flags, reach
from multi_fetch.errors import HostsError
from multi_fetch.oci.reference import Reference, parse_familiar, parse_remote
from multi_fetch.registry.hosts import PrivateHost, default_host
from multi_fetch.registry.proxies import NO_PROXIES, Proxies

if TYPE_CHECKING:
    from collections.abc import Iterator

REF: Final = parse_familiar("registry.example/a")
COMMANDS: Final = [("multi-fetch", "localhost:1/a"), ("fetch-object", "localhost:1/a:v1")]
NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxies, and nobody's folders."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(hosts_module, "HOSTS_FOLDERS", (str(tmp_path / "absent"),))


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What is logged while only errors are."""
    kept: list[logging.LogRecord] = []
    log = logging.getLogger("multi_fetch.cli.hosts")

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    keeper = Keeper()
    log.addHandler(keeper)
    log.setLevel("ERROR")
    yield kept
    log.removeHandler(keeper)
    log.setLevel("NOTSET")


def told(*words: str, ref: Reference = REF) -> Reach:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_host_flags(parser)
    return reach(parser.parse_args(words), ref)


def put(root: Path, text: str) -> str:
    folder = root / "registry.example"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(text)
    return str(root)


@pytest.fixture
def pem(tmp_path: Path) -> str:
    """A certificate with its key; its authority is as good."""
    path = tmp_path / "both.pem"
    trustme.CA().issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(path)
    )
    return str(path)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Store.Example", "store.example", None),
        ("store.example.:9000", "store.example", 9000),
        ("store.example:80", "store.example", 80),
        ("10.0.0.1", "10.0.0.1", None),
        ("[FD00::1]:9000", "fd00::1", 9000),
        ("[fd00::1]", "fd00::1", None),
    ],
)
def test_who_may_be_inside_is_a_host_with_a_port_or_without(
    text: str, host: str, port: int | None
) -> None:
    assert told("--allow-private", text)["hosts"][0].may_name == (PrivateHost(host, port),)


def test_nobody_may_be_inside_by_default_and_several_if_they_are_named() -> None:
    assert told()["hosts"][0].may_name == ()
    found = told("--allow-private", "a.example", "--allow-private", "b.example:1")
    assert found["hosts"][0].may_name == (PrivateHost("a.example"), PrivateHost("b.example", 1))


@pytest.mark.parametrize(
    "text",
    ["", "https://a.example", "a.example/x", "a.example/", "me@a.example", "a:b", "a:0", "a:99999"],
)
def test_what_is_no_host_may_not_be_inside(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="is no host: as in store"):
        told("--allow-private", text)


def test_without_flags_and_folders_the_registry_is_its_own_host() -> None:
    assert told() == {
        "hosts": [default_host("registry.example")],
        "proxies": NO_PROXIES,
        "foreign_urls": False,
        "ranges": 1,
    }


def test_foreign_urls_are_asked_only_with_a_flag() -> None:
    assert told("--foreign-urls")["foreign_urls"] is True


def test_a_layout_has_no_host() -> None:
    assert told("--plain-http", ref=parse_remote("oci:a/folder"))["hosts"] == []


def test_the_folders_of_containerd_and_docker_are_looked_into_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = put(tmp_path / "own", '[host."https://own.example"]')
    named = put(tmp_path / "named", '[host."https://named.example"]')
    monkeypatch.setattr(hosts_module, "HOSTS_FOLDERS", (str(tmp_path / "absent"), own))
    assert told()["hosts"][0].authority == "own.example"
    assert told("--hosts-dir", named)["hosts"][0].authority == "named.example"
    assert told("--hosts-dir=")["hosts"] == [default_host("registry.example")]


def test_what_the_default_folders_are() -> None:
    code = "from multi_fetch.cli.hosts import HOSTS_FOLDERS; print(*HOSTS_FOLDERS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "/etc/containerd/certs.d /etc/docker/certs.d\n"


def test_certificates_are_for_the_registry_and_authorities_for_all(
    tmp_path: Path, pem: str
) -> None:
    folder = put(tmp_path / "x", f'[host."https://m.example"]\nca = "{pem}"')
    mirror, own = told("--hosts-dir", folder, "--ca-file", pem, "--cert-file", pem)["hosts"]
    assert (mirror.tls.ca_files, mirror.tls.client_pairs) == ((pem, pem), ())
    assert (own.tls.ca_files, own.tls.client_pairs) == ((pem,), ((pem, ""),))
    (own,) = told("--cert-file", pem, "--key-file", pem)["hosts"]
    assert own.tls.client_pairs == ((pem, pem),)


def test_plain_http_is_for_the_registry_alone(tmp_path: Path) -> None:
    folder = put(tmp_path / "x", '[host."https://m.example"]')
    mirror, own = told("--hosts-dir", folder, "--plain-http")["hosts"]
    assert (mirror.url, own.url) == ("https://m.example", "http://registry.example")
    assert (mirror.is_plain, own.is_plain) == (False, True)


def test_a_mirror_is_verified_though_the_registry_is_not(tmp_path: Path) -> None:
    folder = put(tmp_path / "x", '[host."https://m.example"]')
    mirror, own = told("--hosts-dir", folder, "--insecure")["hosts"]
    assert (mirror.tls.is_verified, own.tls.is_verified) == (True, False)


def test_who_is_not_verified_is_told_of_at_any_level(
    tmp_path: Path, records: list[logging.LogRecord]
) -> None:
    text = "".join(
        f'[host."{each}://m.example"]\nskip_verify = true\n' for each in ("https", "http")
    )
    folder = put(tmp_path / "x", text)
    told("--hosts-dir", folder)
    assert [vars(record)["url"] for record in records] == ["https://m.example"]
    assert records[0].levelname == "WARNING"
    assert "its token service" in records[0].getMessage()  # which gets the login
    (own,) = told("--insecure")["hosts"]
    assert not own.tls.is_verified
    assert len(records) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--ca-file", "/absent.pem"],
        ["--cert-file", "/absent.pem"],
        ["--key-file", "/absent.pem"],
        ["--cert-file", "/dev/null"],
    ],
)
def test_a_file_that_is_no_use_is_an_error_before_anything_is_asked(words: list[str]) -> None:
    with pytest.raises(HostsError):
        told(*words)


@pytest.mark.parametrize(
    ("variables", "proxies"),
    [
        ({"HTTP_PROXY": "a", "https_proxy": "b"}, Proxies(http="a", https="b")),
        ({"HTTP_PROXY": "a", "http_proxy": "b"}, Proxies(http="b")),
        ({"HTTP_PROXY": "a", "http_proxy": ""}, Proxies(http="a")),
        ({"ALL_PROXY": "a", "no_proxy": "b,c"}, Proxies(all="a", no_proxy="b,c")),
        ({"NO_PROXY": "*", "HTTPS_PROXY": "a"}, Proxies(https="a", no_proxy="*")),
        # RFC 3875: HTTP_PROXY may be a request's header "Proxy"
        ({"HTTP_PROXY": "a", "REQUEST_METHOD": "GET"}, Proxies()),
        ({"http_proxy": "a", "REQUEST_METHOD": "GET"}, Proxies(http="a")),
    ],
)
def test_the_environment_names_proxies_in_either_case(
    variables: dict[str, str], proxies: Proxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert told()["proxies"] == proxies


@pytest.mark.parametrize(("command", "remote"), COMMANDS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[host."https://m.example"]\nca = 1', "hosts.toml: host.'https://m.example'.ca: "),
        ("server =", "hosts.toml is no TOML: "),
    ],
)
def test_a_malformed_file_is_a_usage_error_that_names_it_and_the_key(
    command: str, remote: str, text: str, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "localhost_1_"
    folder.mkdir()
    (folder / "hosts.toml").write_text(text)
    done = run(command, "--hosts-dir", str(tmp_path), remote)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(f"{command}: {folder}/".encode())
    assert said.encode() in done.stderr


@pytest.mark.parametrize(("command", "remote"), COMMANDS)
def test_a_folder_that_is_not_there_is_a_usage_error(
    command: str, remote: str, tmp_path: Path
) -> None:
    done = run(command, "--hosts-dir", str(tmp_path / "absent"), remote)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--hosts-dir: there is no folder" in done.stderr


def run(command: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    program = str(Path(sys.executable).with_name(command))
    return subprocess.run(
        [program, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=dict(os.environ),
        check=False,
    )
