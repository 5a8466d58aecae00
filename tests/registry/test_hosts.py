"""Which endpoint a host name stands for, and what counts as inside."""

import pytest

from multi_fetch.errors import InvalidReferenceError
from multi_fetch.registry.hosts import default_host, is_inside, name_of, without_port


@pytest.mark.parametrize(
    ("hostname", "url"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("index.docker.io", "https://registry-1.docker.io"),
        ("ghcr.io", "https://ghcr.io"),
        ("registry.example:8443", "https://registry.example:8443"),
        ("localhost", "http://localhost"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("127.8.9.10", "http://127.8.9.10"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("[::1]", "http://[::1]"),
        ("[::ffff:127.0.0.1]", "http://[::ffff:127.0.0.1]"),
        ("[64:ff9b::127.0.0.1]", "https://[64:ff9b::127.0.0.1]"),  # by way of a gateway
        ("[2002:7f00:1::1]", "https://[2002:7f00:1::1]"),
        ("[::127.0.0.1]", "https://[::127.0.0.1]"),
        ("128.0.0.1", "https://128.0.0.1"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
        ("localhost.example", "https://localhost.example"),
        ("127.0.0.1.example", "https://127.0.0.1.example"),
    ],
)
def test_only_this_machine_is_asked_without_https(hostname: str, url: str) -> None:
    assert default_host(hostname).url == url


@pytest.mark.parametrize(
    "hostname", ["a..b", "xn--", f"{'x' * 64}.example", "registry.example:65536"]
)
def test_a_name_that_no_look_up_takes_is_an_invalid_reference(hostname: str) -> None:
    with pytest.raises(InvalidReferenceError, match="is not a host"):
        default_host(hostname)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "::1",
        "[::1]",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "fec0::1",
        "2002:a00:1::1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "::127.0.0.1",
        "::ffff:0:10.0.0.1",
        "192.0.0.192",
    ],
)
def test_inside_is_what_the_internet_cannot_reach(host: str) -> None:
    assert is_inside(host)


@pytest.mark.parametrize(
    "host",
    [
        "registry.example",
        "8.8.8.8",
        "172.32.0.1",
        "2001:4860:4860::8888",
        "64:ff9b::8.8.8.8",
        "localhost.x",
        "",
    ],
)
def test_all_else_is_outside(host: str) -> None:
    assert not is_inside(host)


def test_users_call_docker_hub_by_its_name_and_others_by_theirs() -> None:
    for hostname in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        assert name_of(default_host(hostname)) == "docker.io"
    assert name_of(default_host("r.example:5000")) == "r.example:5000"


def test_without_port_leaves_the_host_alone() -> None:
    assert without_port("[fe80::1]:5000") == "fe80::1"
    assert without_port("registry.example:5000") == "registry.example"
    assert without_port("registry.example") == "registry.example"
