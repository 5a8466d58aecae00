"""Python's registry clients, driven alike: ``python_peers.py dxf|oras <address> <repository>``.

Digests come on stdin, content goes to stdout, by one client over one connection: neither library
shares a client between threads. oras-py does not verify; that is left to the caller, and done here.
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CHUNK_BYTES: Final = 1024 * 1024


def dxf(address: str, repository: str) -> Callable[[str], Iterable[bytes]]:
    from dxf import DXF

    client = DXF(address, repository, insecure=True)
    return lambda digest: client.pull_blob(digest, chunk_size=CHUNK_BYTES)


def oras(address: str, repository: str) -> Callable[[str], Iterable[bytes]]:
    from oras.provider import Registry

    client = Registry(hostname=address, insecure=True)

    def pull(digest: str) -> Iterable[bytes]:
        hasher = hashlib.sha256()
        response = client.get_blob(f"{address}/{repository}:latest", digest, stream=True)
        response.raise_for_status()
        for chunk in response.iter_content(CHUNK_BYTES):
            hasher.update(chunk)
            yield chunk
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise SystemExit(f"{digest}: other content came")

    return pull


def main(library: str, address: str, repository: str) -> None:
    pull = {"dxf": dxf, "oras": oras}[library](address, repository)
    for digest in sys.stdin.read().split():
        for chunk in pull(digest):
            sys.stdout.buffer.write(chunk)


if __name__ == "__main__":
    main(*sys.argv[1:])
