"""A driver of skopeo's experimental-image-proxy.

Its protocol (skopeo-experimental-image-proxy(1)): JSON requests and replies, each one packet of a
SOCK_SEQPACKET socket, one at a time; a blob comes through a pipe, whose read end is sent beside
the reply. FinishPipe gives the verdict, and blocks all else until its blob was read; so it is
sent only when a pipe's last byte is here.

GetBlob is used, which verifies, as multi-fetch does; the driver reads and discards, as cat does
for the other clients, and its own CPU time is not counted.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import tempfile
from typing import TYPE_CHECKING, Final

import msgspec

from bench.content import REPOSITORY, TAG
from bench.measure import BenchError, Sample, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.content import Blob, Workload

MAX_PACKET_BYTES: Final = 32 * 1024
PIPES: Final = 4
READ_BYTES: Final = 1024 * 1024


class Reply(msgspec.Struct):
    """One reply; ``value`` depends on the method, ``pipeid`` is 0 where there is no pipe."""

    success: bool
    value: msgspec.Raw = msgspec.Raw(b"null")
    pipeid: int = 0
    error: str = ""


class Transfer:
    """A blob on its way: the read end of its pipe, and the bytes that are still to come."""

    def __init__(self, fd: int, pipe_id: int, size: int) -> None:
        self.fd = fd
        self.pipe_id = pipe_id
        self.remaining = size

    def read(self) -> bool:
        """Takes what is there; True at the last byte."""
        taken = len(os.read(self.fd, READ_BYTES))
        if taken == 0 and self.remaining:
            raise BenchError(f"a blob ended {self.remaining} bytes too early")
        self.remaining -= taken
        return self.remaining <= 0


class ImageProxy:
    """The parent's side of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def call(self, method: str, *args: str | int) -> tuple[Reply, list[int]]:
        """Sends a request and waits for its reply.

        Raises:
            BenchError: the proxy refused, or ended.
        """
        self._socket.send(json.dumps({"method": method, "args": args}).encode())
        packet, fds, _, _ = socket.recv_fds(self._socket, MAX_PACKET_BYTES, 1)
        if not packet:
            raise BenchError(f"the image proxy ended at {method}")
        reply = msgspec.json.decode(packet, type=Reply)
        if not reply.success:
            raise BenchError(f"the image proxy answered to {method}: {reply.error}")
        return reply, fds

    def open_image(self, reference: str) -> int:
        reply, _ = self.call("OpenImage", reference)
        return msgspec.json.decode(reply.value, type=int)

    def get_blob(self, image: int, blob: Blob) -> Transfer:
        reply, fds = self.call("GetBlob", image, blob.digest, blob.size)
        (fd,) = fds
        return Transfer(fd, reply.pipeid, blob.size)

    def finish(self, transfer: Transfer) -> None:
        """The proxy's verdict on a blob that was read to its end."""
        self.call("FinishPipe", transfer.pipe_id)
        os.close(transfer.fd)


class ImageProxyClient:
    """skopeo, driven over its socket."""

    name = "skopeo"
    command = "skopeo"

    def __init__(self, address: str) -> None:
        self._image = f"docker://{address}/{REPOSITORY}:{TAG}"

    def check(self, workload: Workload) -> None:
        """Every run counts the bytes and asks for the verdict."""
        self.run(workload)

    def run(self, workload: Workload) -> Sample:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [self.command, "--insecure-policy", "experimental-image-proxy", "--tls-verify=false"]
        with tempfile.TemporaryDirectory() as home:
            # The user's own policy, mirrors and credentials stay out of it.
            environment = os.environ | {"HOME": home, "XDG_RUNTIME_DIR": home}
            with theirs, running(argv, stdin=theirs.fileno(), env=environment) as client:
                theirs.close()
                with ours:  # the proxy ends at the socket's end
                    proxy = ImageProxy(ours)
                    proxy.call("Initialize")
                    _fetch_all(proxy, proxy.open_image(self._image), iter(workload.blobs))
                sample, _ = client.finish()
        return sample


def _fetch_all(proxy: ImageProxy, image: int, blobs: Iterator[Blob]) -> None:
    """Reads all blobs, up to PIPES of them at a time."""
    with selectors.DefaultSelector() as selector:

        def begin_next() -> None:
            blob = next(blobs, None)
            if blob is not None:
                transfer = proxy.get_blob(image, blob)
                selector.register(transfer.fd, selectors.EVENT_READ, transfer)

        for _ in range(PIPES):
            begin_next()
        while selector.get_map():
            for key, _ in selector.select():
                transfer: Transfer = key.data
                if transfer.read():
                    selector.unregister(transfer.fd)
                    proxy.finish(transfer)
                    begin_next()
