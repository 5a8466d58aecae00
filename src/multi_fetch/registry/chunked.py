"""A chunked body: what comes between the chunks' heads (RFC 9112, section 7.1). No I/O."""

from __future__ import annotations

import httptools


class ChunkedBody:
    """A chunked body, read by the parser that would have read its head.

    Attributes:
        is_complete: whether its last chunk has come, and the trailers behind it.
        has_more: whether more came than belongs to it.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.has_more = False
        self._chunks: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def feed(self, data: memoryview) -> None:
        """Takes what was received, cut anywhere.

        Raises:
            httptools.HttpParserError: it is no HTTP, or not behind the last chunk.
        """
        self._parser.feed_data(data)

    def take(self) -> list[bytes]:
        """The content that has come since it was last taken."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def on_body(self, body: bytes) -> None:
        """Called by the parser for content."""
        if self.is_complete:
            self.has_more = True
        else:
            self._chunks.append(body)

    def on_message_begin(self) -> None:
        """Called by the parser at the beginning of this answer, and of one behind it."""
        self.has_more = self.is_complete

    def on_message_complete(self) -> None:
        """Called by the parser at the end."""
        self.is_complete = True
