"""What one writes first: httpx and trio as they come. ``naive.py [--jobs N] <url of the blobs>``.

Digests come on stdin, a line each; verified content goes to stdout, an object at a time in parts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys

import httpx
import trio


async def fetch(client: httpx.AsyncClient, url: str, digest: str, lock: trio.Lock) -> None:
    hasher = hashlib.sha256()
    async with client.stream("GET", f"{url}/{digest}") as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            hasher.update(chunk)
            async with lock:
                write_all(chunk)
    if f"sha256:{hasher.hexdigest()}" != digest:
        raise SystemExit(f"{digest}: other content came")


def write_all(chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(1, rest) :]


async def main(url: str, jobs: int) -> None:
    digests = iter(sys.stdin.read().split())
    lock = trio.Lock()

    async def work() -> None:
        for digest in digests:
            await fetch(client, url, digest, lock)

    limits = httpx.Limits(max_connections=jobs, max_keepalive_connections=jobs)
    async with httpx.AsyncClient(limits=limits) as client, trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.naive", description=__doc__)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("url")
    options = parser.parse_args()
    trio.run(main, options.url, options.jobs)
