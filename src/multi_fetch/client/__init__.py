"""For parents in Python: starts a worker, asks, and gives the answers.

Many objects in one call::

    from multi_fetch.client import fetch_many

    for answer in fetch_many("docker.io/library/redis", ["latest", ("7", "content:none")]):
        if answer.error:
            print(answer.object, "failed:", answer.error)
        else:
            print(answer.object, answer.descriptor.digest, len(answer.read()))

A worker for as long as it is needed, where one answer leads to the next request::

    from multi_fetch.client import Worker

    with Worker("docker.io/library/redis", jobs=8) as worker:
        manifest = json.loads(worker.submit("latest", "platform:linux/amd64").read())
        layers = [
            worker.submit(layer["digest"], f"mediatype:{layer['mediaType']}")
            for layer in manifest["layers"]
        ]
        for layer in worker.as_completed(layers):
            with open(layer.digest.encoded, "wb") as file:
                file.writelines(layer)

What there is to ask for::

    with Worker("ghcr.io/org/app") as worker:
        for tag in worker.tags():
            ...
        for sbom in worker.referrers(digest, "application/spdx+json"):
            worker.submit(sbom.digest, f"mediatype:{sbom.media_type}", "children:all")

With the remote ``-`` each request names its own repository: ``worker.submit("redis:7")``.

The same under trio or asyncio (``pip install 'multi-fetch[client]'``)::

    async with AsyncWorker("docker.io/library/redis") as worker:
        content = await worker.submit("latest").read()

Where a request has failed, the answer raises its error from ``multi_fetch.errors``. ``read`` gives
verified content alone. Iterating over an answer that is not done yet gives provisional content,
which counts only when the iteration ends without an error.

Nothing has to be read, in no order: lines that the worker's window has no room for wait here, and
content that is not read waits in memory up to a bound, and beyond it in a temporary file. Let go
of an answer, or cancel it, and what was kept for it is free. What was found below one stays with
it, about 1 KiB for each object: some 70 MiB for the largest tree, of 65,536. Trees have no bound
together, so let go of one before you ask for many more.

A worker that ends with requests open fails each of them with a WorkerDiedError, and ``restart``
asks for them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from multi_fetch.client.answer import Answer
from multi_fetch.client.many import fetch_many
from multi_fetch.client.worker import Worker

if TYPE_CHECKING:
    from multi_fetch.client.async_answer import AsyncAnswer
    from multi_fetch.client.async_worker import AsyncWorker

__all__ = ["Answer", "AsyncAnswer", "AsyncWorker", "Worker", "fetch_many"]

if not TYPE_CHECKING:
    # A type checker has the names from above, and finds those that do not exist.
    def __getattr__(name: str) -> object:
        """The async names, whose modules alone need anyio."""
        if name == "AsyncWorker":
            from multi_fetch.client.async_worker import AsyncWorker

            return AsyncWorker
        if name == "AsyncAnswer":
            from multi_fetch.client.async_answer import AsyncAnswer

            return AsyncAnswer
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
