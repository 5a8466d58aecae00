"""hosts.toml and Docker's certificates: what they say, where they are, and how they are wrong."""

from __future__ import annotations

import tomllib
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import HostsError, InvalidReferenceError, RegistryError
from multi_fetch.limits import MAX_HOSTS_FILE_BYTES, MAX_HOSTS_LINE_DOTS
from multi_fetch.registry.auth import token_requests
from multi_fetch.registry.challenge import Challenge
from multi_fetch.registry.credentials import Credential
from multi_fetch.registry.hosts import Host, default_host, load_hosts
from multi_fetch.registry.hosts_file import folder_names, parse_hosts
from multi_fetch.registry.tls import Tls

if TYPE_CHECKING:
    from pathlib import Path

REGISTRY = "registry.example:5000"
OWN = default_host(REGISTRY)
LOGIN = Credential(username="al1ce", password="s3cret")


def parsed(text: str, registry: str = REGISTRY) -> list[Host]:
    return parse_hosts(text.encode(), "/etc/x/hosts.toml", registry, default_host(registry))


def put(root: Path, name: str, text: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(text)
    return folder


# --- where they are -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        ("docker.io", ["docker.io"]),
        ("myregistry.io:5000", ["myregistry.io_5000_", "myregistry.io:5000"]),
        ("127.0.0.1:5000", ["127.0.0.1_5000_", "127.0.0.1:5000"]),
        ("[::1]:5000", ["[::1]_5000_", "[::1]:5000"]),
        ("[2001:db8::1]", ["[2001:db8::1]"]),
    ],
)
def test_a_registrys_folder_is_named_as_containerd_names_it(
    registry: str, names: list[str]
) -> None:
    """containerd, docs/hosts.md, "Port Handling in Registry Host"."""
    assert list(folder_names(registry)) == names


def test_the_better_name_decides_and_default_is_last(tmp_path: Path) -> None:
    def first() -> str:
        return load_hosts(tmp_path, REGISTRY)[0].authority

    assert first() == REGISTRY
    for number, name in enumerate(["_default", REGISTRY, "registry.example_5000_"]):
        put(tmp_path, name, f'[host."https://m{number}.example"]')
        assert first() == f"m{number}.example"


def test_of_several_folders_the_first_that_knows_the_registry_decides(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    put(one, "_default", '[host."https://default.example"]')
    put(two, REGISTRY, '[host."https://two.example"]')
    assert load_hosts([one, two, tmp_path / "absent"], REGISTRY)[0].authority == "two.example"
    assert load_hosts([one, two], "other.example")[0].authority == "default.example"
    put(one, REGISTRY, '[host."https://one.example"]')
    assert load_hosts([one, two], REGISTRY)[0].authority == "one.example"
    assert load_hosts([], REGISTRY) == [OWN]


@pytest.mark.parametrize("registry", ["..", ".", "a..b", "r.example:99999"])
def test_a_name_that_is_no_host_leads_to_no_folder(tmp_path: Path, registry: str) -> None:
    with pytest.raises(InvalidReferenceError):
        load_hosts(tmp_path / "x" / "y", registry)


def test_a_registry_of_which_nothing_is_said_is_its_own_host(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", str(tmp_path)):
        assert load_hosts(path, "docker.io") == [default_host("docker.io")]


def test_an_empty_folder_says_nothing(tmp_path: Path) -> None:
    (tmp_path / REGISTRY).mkdir()
    assert load_hosts(tmp_path, REGISTRY) == [OWN]


def test_without_a_hosts_toml_certificates_are_found_by_their_names(tmp_path: Path) -> None:
    """Docker's layout; an empty hosts.toml is none, as with containerd."""
    folder = put(tmp_path, REGISTRY, "")
    for name in ("b.crt", "a.crt", "c.cert", "c.key", "d.cert", "e.key", "readme"):
        (folder / name).touch()
    (folder / "f.crt").mkdir()
    (host,) = load_hosts(tmp_path, REGISTRY)
    assert host.url == OWN.url
    assert host.tls == Tls(
        ca_files=(f"{folder}/a.crt", f"{folder}/b.crt"),
        client_pairs=((f"{folder}/c.cert", f"{folder}/c.key"), (f"{folder}/d.cert", "")),
    )


@pytest.mark.parametrize("registry", ["127.0.0.1:5000", "localhost", "[::1]:5000"])
@pytest.mark.parametrize("name", ["ca.crt", "client.cert"])
def test_a_registry_on_this_machine_that_has_certificates_is_asked_by_https(
    tmp_path: Path, registry: str, name: str
) -> None:
    assert load_hosts(tmp_path, registry)[0].scheme == "http"
    folder = put(tmp_path, registry, "")
    assert load_hosts(tmp_path, registry)[0].scheme == "http"
    (folder / name).touch()
    assert load_hosts(tmp_path, registry)[0].url == f"https://{registry}"


def test_certificates_for_all_say_nothing_of_a_registry_on_this_machine(tmp_path: Path) -> None:
    (put(tmp_path, "_default", "") / "ca.crt").touch()
    assert load_hosts(tmp_path, "localhost:5000")[0].scheme == "http"
    assert load_hosts(tmp_path, "localhost:5000")[0].tls.ca_files


# --- what they say --------------------------------------------------------------------------


def test_hosts_come_in_the_files_order_and_the_server_last() -> None:
    hosts = parsed("""
        server = "https://upstream.example"
        [host."https://z.example"]
        [host."http://a.example:8080"]
        [host."https://m.example".header]
        [host."https://m.example"]
    """)
    assert [host.url for host in hosts] == [
        "https://z.example",
        "http://a.example:8080",
        "https://m.example",
        "https://upstream.example",
    ]


def test_who_is_named_by_http_on_this_machine_may_name_nobody_so_on_the_network() -> None:
    """The login of a mirror would go there without TLS, and its user has only named this one."""
    (host, _) = parsed('[host."http://127.0.0.1:5001"]')
    ask = partial(token_requests, credential=LOGIN, scopes=(), host=host, is_registry_inside=True)
    with pytest.raises(RegistryError, match="no login is sent there"):
        ask(Challenge("bearer", {"realm": "http://auth.example/token"}))
    assert ask(Challenge("bearer", {"realm": "http://localhost:5002/token"}))[0].authorization
    assert ask(Challenge("bearer", {"realm": "https://auth.example/token"}))[0].authorization


@pytest.mark.parametrize(
    ("registry", "text", "url"),
    [
        (REGISTRY, "", "https://registry.example:5000"),
        ("docker.io", "", "https://registry-1.docker.io"),
        ("docker.io", 'server = "https://docker.io"', "https://registry-1.docker.io"),
        ("localhost:5000", "", "http://localhost:5000"),
        ("localhost:5000", 'server = "localhost:5000"', "https://localhost:5000"),
        (REGISTRY, 'server = "http://registry.example:5000"', "http://registry.example:5000"),
        (REGISTRY, 'server = "registry.example:5000"', "https://registry.example:5000"),
        (REGISTRY, 'server = "HTTPS://Registry.Example:5000/"', "https://registry.example:5000"),
        ("registry.example:443", 'server = "https://registry.example"', "https://registry.example"),
        ("[::1]:5000", 'server = "http://[::1]:5000"', "http://[::1]:5000"),
    ],
)
def test_the_registry_itself_is_asked_for_no_namespace(registry: str, text: str, url: str) -> None:
    (host,) = parsed(text, registry)
    assert (host.url, host.namespace) == (url, "")


@pytest.mark.parametrize(
    ("server", "override", "target"),
    [
        ("https://m.example", "false", "/v2/a/manifests/v1?ns=registry.example:5000"),
        ("https://m.example/", "false", "/v2/a/manifests/v1?ns=registry.example:5000"),
        ("https://m.example/us", "false", "/us/v2/a/manifests/v1?ns=registry.example:5000"),
        ("https://m.example//us/../eu/", "false", "/eu/v2/a/manifests/v1?ns=registry.example:5000"),
        ("https://m.example/us/v2/", "false", "/us/v2/a/manifests/v1?ns=registry.example:5000"),
        ("https://m.example/v2/up", "true", "/v2/up/a/manifests/v1?ns=registry.example:5000"),
        ("https://m.example", "true", "/a/manifests/v1?ns=registry.example:5000"),
    ],
)
def test_a_mirror_is_asked_below_its_path_and_told_whose_objects_are_meant(
    server: str, override: str, target: str
) -> None:
    """containerd, docs/hosts.md, "Registry Host Namespace" and "override_path field"."""
    host = parsed(f'[host."{server}"]\noverride_path = {override}')[0]
    assert host.target("/v2/a/manifests/v1") == target


@pytest.mark.parametrize(
    ("capabilities", "may_pull", "may_resolve"),
    [
        ("[]", True, True),
        ('["pull"]', True, False),
        ('["resolve"]', False, True),
        ('["Pull", "RESOLVE", "push"]', True, True),
        ('["push"]', False, False),
        ('["pull", "referrers"]', True, False),
    ],
)
def test_capabilities_are_all_or_those_that_are_named(
    capabilities: str, *, may_pull: bool, may_resolve: bool
) -> None:
    for text in ("", '[host."https://m.example"]\n'):
        host = parsed(f"{text}capabilities = {capabilities}")[0]
        assert (host.may_pull, host.may_resolve) == (may_pull, may_resolve)


@pytest.mark.parametrize(
    ("value", "files"),
    [
        ('"a.pem"', ("/etc/x/a.pem",)),
        ('["a.pem", "/b.pem"]', ("/etc/x/a.pem", "/b.pem")),
        ("[]", ()),
    ],
)
def test_authorities_are_paths_from_the_files_own_folder(
    value: str, files: tuple[str, ...]
) -> None:
    assert parsed(f"ca = {value}")[0].tls.ca_files == files


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        ('"a.pem"', (("/etc/x/a.pem", ""),)),
        ('["a.pem", "/b.pem"]', (("/etc/x/a.pem", ""), ("/b.pem", ""))),
        (
            '[["c.cert", "c.key"], ["d.pem", ""]]',
            (("/etc/x/c.cert", "/etc/x/c.key"), ("/etc/x/d.pem", "")),
        ),
    ],
)
def test_client_certificates_are_a_path_or_paths_or_pairs(
    value: str, pairs: tuple[tuple[str, str], ...]
) -> None:
    assert parsed(f"client = {value}")[0].tls.client_pairs == pairs


def test_the_rest_of_a_hosts_table_is_read() -> None:
    host, own = parsed("""
        [host."https://m.example"]
        skip_verify = true
        dial_timeout = "1500ms"
        proxy = "http://proxy.example:3128"
        somebodys = { own = "key" }
        [host."https://m.example".header]
        x-custom-1 = "one"
        X-CUSTOM-2 = ["two", "three "]
    """)
    assert not host.tls.is_verified
    assert host.connect_seconds == 1.5
    assert host.proxy == "http://proxy.example:3128"
    assert host.headers == (("X-Custom-1", "one"), ("X-Custom-2", "two, three"))
    assert own == OWN


def test_a_host_shows_no_secret() -> None:
    (host,) = parsed('proxy = "http://me:s3cret@proxy:1"\n[header]\nx-token = "s3cret"')
    assert "s3cret" not in repr(host)
    assert "s3cret" not in repr([host])


# --- how they are wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("=", None),
        ("server = 1", "server"),
        ('server = "ftp://a"', "server"),
        ('server = "https://"', "server"),
        ('server = "https://me:s3cret@a"', "server"),
        ('server = "https://a/?token=s3cret"', "server"),
        ('server = "https://me:s3c/s3cret@a"', "server"),
        ('server = "https://me:s3cret/s@a"', "server"),
        ('server = "https://me:s3cret?s@a"', "server"),
        ('server = "https://me:s3cret℀@a"', "server"),
        ('server = "https:/me:s3cret@a"', "server"),
        ('server = "https:///me:s3cret@a"', "server"),
        ('[host."https://me:s3cret@a"]\n[host."https://me:s3cret@a"]', None),
        ("host = 1", "host"),
        ("[host]\nx = 1", "host"),
        ('[host."https://"]', "host.'https://'"),
        ('[host."https://me:s3cret@m.example"]', "host.'https://m.example'"),
        ('[host."https://m.example"]\nca = 1', "host.'https://m.example'.ca"),
        ("ca = [1]", "ca[0]"),
        ('client = [["a", "b", "c"]]', "client[0]"),
        ("client = {}", "client"),
        ('skip_verify = "yes"', "skip_verify"),
        ("override_path = 1", "override_path"),
        ('capabilities = "pull"', "capabilities"),
        ('capabilities = ["resolv"]', "capabilities"),
        ('dial_timeout = "soon"', "dial_timeout"),
        ("dial_timeout = 5", "dial_timeout"),
        ('header = ["a"]', "header"),
        ('[header]\n"a b" = "c"', "header"),
        ('[header]\nHost = "c"', "header"),
        ('[header]\nx = "s3cret\\n"', "header.x"),
        ('[header]\nx = "s3cr\\u00e9t"', "header.x"),
        ('proxy = "socks5://me:s3cret@a"', "proxy"),
        ('proxy = "http://me:s3cret@a/path"', "proxy"),
    ],
)
def test_a_wrong_file_is_an_error_with_its_path_and_key_and_no_secret(
    text: str, key: str | None
) -> None:
    with pytest.raises(HostsError, match=r"^/etc/x/hosts\.toml") as caught:
        parsed(text)
    assert caught.value.path == "/etc/x/hosts.toml"
    assert caught.value.key == key
    assert "s3cr" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / REGISTRY / "hosts.toml").mkdir(parents=True)
    with pytest.raises(HostsError, match="cannot be read: Is a directory"):
        load_hosts(tmp_path, REGISTRY)
    (tmp_path / "r.example").touch()
    with pytest.raises(HostsError, match="cannot be read: Not a directory"):
        load_hosts(tmp_path, "r.example")


def test_a_file_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    put(tmp_path, REGISTRY, "#" * (MAX_HOSTS_FILE_BYTES + 1))
    with pytest.raises(HostsError, match="more than"):
        load_hosts(tmp_path, REGISTRY)


def test_a_key_of_very_many_parts_is_refused_before_it_is_taken_apart() -> None:
    key = ".".join("a" * (MAX_HOSTS_LINE_DOTS + 2))
    with pytest.raises(HostsError, match="p has a line with more than 512 dots"):
        parse_hosts(f"server = 'https://m.example'\n{key} = 1\n".encode(), "p", REGISTRY, OWN)


# --- any bytes, any TOML --------------------------------------------------------------------

KEYS = st.sampled_from(
    ["server", "host", "capabilities", "ca", "client", "skip_verify", "header", "dial_timeout"]
) | st.text(max_size=5)
TEXTS = st.sampled_from(["https://m.example", "//", "http://[", "pull", "1s", "a b"]) | st.text(
    max_size=20
)
VALUES = st.recursive(
    st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=4),
    max_leaves=12,
)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted(key)} = {toml(each)}' for key, each in value.items())}}}"
    return quoted(value) if isinstance(value, str) else str(value)


def quoted(text: str) -> str:
    escaped = (each if " " <= each <= "~" and each not in '"\\' else _escape(each) for each in text)
    return f'"{"".join(escaped)}"'


def _escape(character: str) -> str:
    number = ord(character)
    return "?" if 0xD800 <= number < 0xE000 else f"\\U{number:08X}"


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_toml_is_hosts_or_a_hosts_error(document: dict[str, Any]) -> None:
    text = "\n".join(f"{quoted(key)} = {toml(value)}" for key, value in document.items())
    tomllib.loads(text)
    try:
        hosts = parsed(text)
    except HostsError:
        return
    assert hosts
    assert all(host.target("/v2/a").startswith(host.root) for host in hosts)


@given(st.binary(max_size=200))
def test_any_bytes_are_hosts_or_a_hosts_error(data: bytes) -> None:
    try:
        hosts = parse_hosts(data, "/etc/x/hosts.toml", REGISTRY, OWN)
    except HostsError:
        return
    assert hosts[-1].may_pull
