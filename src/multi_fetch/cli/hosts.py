"""Where the command lines learn how a registry is reached: flags, hosts.toml, proxies."""

from __future__ import annotations

import argparse
import logging
import os
from typing import TYPE_CHECKING, Final, TypedDict

from msgspec.structs import replace

from multi_fetch.cli.numbers import whole_number
from multi_fetch.errors import HostsError, RegistryError
from multi_fetch.limits import DEFAULT_RANGES, MAX_RANGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from multi_fetch.oci.reference import Reference
    from multi_fetch.registry.hosts import Host, PrivateHost
    from multi_fetch.registry.proxies import Proxies

HTTP_PROXY_VARIABLE: Final = "HTTP_PROXY"
HTTPS_PROXY_VARIABLE: Final = "HTTPS_PROXY"
ALL_PROXY_VARIABLE: Final = "ALL_PROXY"
NO_PROXY_VARIABLE: Final = "NO_PROXY"

# RFC 3875: a server sets this for its CGI programs, and HTTP_PROXY to a request's header "Proxy".
CGI_VARIABLE_OF_SERVERS: Final = "REQUEST_METHOD"

# Where containerd and Docker keep what they know of registries.
HOSTS_FOLDERS: Final = ("/etc/containerd/certs.d", "/etc/docker/certs.d")

PROXIES_HELP: Final = f"""\
  {HTTP_PROXY_VARIABLE}, {HTTPS_PROXY_VARIABLE}, {ALL_PROXY_VARIABLE}, {NO_PROXY_VARIABLE}
                            proxies and who is asked without one, as curl has
                            them; also in lower case
"""

NOT_VERIFIED: Final = (
    "no certificate is verified of this host, its token service and where it leads: anybody can"
    " answer for them, and gets what login there is"
)

log = logging.getLogger(__name__)


class Reach(TypedDict):
    """As ``open_remote`` takes them."""

    hosts: list[Host]
    proxies: Proxies
    foreign_urls: bool
    ranges: int


def add_host_flags(flags: argparse._ActionsContainer) -> None:
    """--hosts-dir, the certificates, --plain-http, --ranges, and where others may lead."""
    _add_own_flags(flags)
    flags.add_argument(
        "--ranges",
        type=whole_number(1, MAX_RANGES),
        default=DEFAULT_RANGES,
        metavar="N",
        help="connections over which a large blob comes (default: %(default)s)",
    )
    flags.add_argument(
        "--foreign-urls",
        action="store_true",
        help="fetch what the registry does not have from the URLs that manifests name for it",
    )
    flags.add_argument(
        "--allow-private",
        type=_private_host,
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="a host that may be in a private network though a registry that is not names it, as"
        " its store, its token service or in a manifest; may be given several times",
    )


def _add_own_flags(flags: argparse._ActionsContainer) -> None:
    """How the registry itself is reached."""
    flags.add_argument(
        "--hosts-dir",
        type=_folder,
        metavar="DIR",
        help="the folder with <registry>/hosts.toml, as containerd has them, or with Docker's"
        f" certificates; empty for none (default: {' and '.join(HOSTS_FOLDERS)})",
    )
    flags.add_argument(
        "--ca-file", metavar="PATH", help="certificates to trust beside the system's, in PEM"
    )
    flags.add_argument(
        "--cert-file", metavar="PATH", help="a certificate to show to the registry, in PEM"
    )
    flags.add_argument(
        "--key-file", metavar="PATH", help="its key, where that is not in the same file"
    )
    flags.add_argument(
        "--insecure", action="store_true", help="take anybody's certificate for the registry's"
    )
    flags.add_argument(
        "--plain-http",
        action="store_true",
        help="speak http with the registry, where it is not on this machine either, and with a"
        " token service on another that one on this machine names",
    )


def reach(arguments: argparse.Namespace, ref: Reference) -> Reach:
    """How the registry of a reference is reached.

    Raises:
        HostsError: a file is malformed, or cannot be used.
    """
    from multi_fetch.registry.hosts import NOBODY, load_hosts

    if arguments.key_file and not arguments.cert_file:
        raise HostsError("--key-file is nothing without --cert-file: add that")
    # A layout has no host, but foreign URLs may be asked beside it.
    beside = [NOBODY] if arguments.foreign_urls else []
    found = beside if ref.scheme else load_hosts(folders_of(arguments), ref.hostname)
    hosts = [_as_told(host, arguments) for host in found]
    for host in hosts:
        host.tls.check()
        if host.scheme == "https" and not (host.tls.is_verified or ref.scheme):
            _warn(NOT_VERIFIED, host)
    return {
        "hosts": hosts,
        "proxies": _proxies(os.environ),
        "foreign_urls": arguments.foreign_urls,
        "ranges": arguments.ranges,
    }


def folders_of(arguments: argparse.Namespace) -> list[str]:
    """The folders that may speak of a registry, as far as they are there."""
    folders: Iterable[str] = HOSTS_FOLDERS if arguments.hosts_dir is None else [arguments.hosts_dir]
    return [folder for folder in folders if folder and os.path.isdir(folder)]  # noqa: PTH112 - of texts


def _as_told(host: Host, arguments: argparse.Namespace) -> Host:
    """A host, and what the flags say of it.

    The authorities are for every host; all else is for the registry alone. A mirror's own login
    would go to whoever answers in its place.
    """
    tls, is_own = host.tls, not host.namespace
    if arguments.ca_file:
        tls = replace(tls, ca_files=(*tls.ca_files, arguments.ca_file))
    if arguments.cert_file and is_own:
        pair = arguments.cert_file, arguments.key_file or ""
        tls = replace(tls, client_pairs=(*tls.client_pairs, pair))
    if arguments.insecure and is_own:
        tls = replace(tls, is_verified=False)
    may_name = tuple(arguments.allow_private)
    if arguments.plain_http and is_own:
        host = replace(host, scheme="http", is_plain=True)
    return replace(host, tls=tls, may_name=may_name)


def _proxies(environment: Mapping[str, str]) -> Proxies:
    """The environment's: a name in lower case comes first, as with curl and Python."""
    from multi_fetch.registry.proxies import Proxies

    def value(name: str) -> str:
        return environment.get(name.lower()) or environment.get(name, "")

    is_cgi = CGI_VARIABLE_OF_SERVERS in environment
    http = environment.get(HTTP_PROXY_VARIABLE.lower(), "")
    return Proxies(
        http=http if is_cgi else value(HTTP_PROXY_VARIABLE),
        https=value(HTTPS_PROXY_VARIABLE),
        all=value(ALL_PROXY_VARIABLE),
        no_proxy=value(NO_PROXY_VARIABLE),
    )


def _private_host(text: str) -> PrivateHost:
    """A type of flag: a host as a URL has it, with a port or without."""
    from urllib.parse import urlsplit

    from multi_fetch.registry.hosts import PrivateHost
    from multi_fetch.registry.url import parse_url

    try:
        url = parse_url(f"http://{text}")
        has_port = urlsplit(f"//{text}").port is not None
    except (RegistryError, ValueError) as error:
        raise _no_host(text) from error
    if url.target != "/" or "@" in text or text.endswith("/") or not url.origin.port:
        raise _no_host(text)
    return PrivateHost(url.origin.host.rstrip("."), url.origin.port if has_port else None)


def _no_host(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(
        f"{text[:300]!r} is no host: as in store.example, or store.example:9000"
    )


def _folder(text: str) -> str:
    if text and not os.path.isdir(text):  # noqa: PTH112 - it takes any text, and raises nothing
        raise argparse.ArgumentTypeError(f"there is no folder {text[:300]!r}")
    return text


def _warn(words: str, host: Host) -> None:
    """Logs a warning whatever the level is."""
    record = log.makeRecord(
        log.name, logging.WARNING, __file__, 0, words, (), None, extra={"url": host.url}
    )
    log.handle(record)
