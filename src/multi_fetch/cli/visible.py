"""Text from elsewhere for a terminal to show: what would control it is spelt out. Pure."""

from __future__ import annotations

import re

import msgspec

from multi_fetch.oci.descriptor import encode_hook

# C0, DEL and C1 control a terminal; separators of lines and what turns the direction of writing
# make a line look like another.
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible_json(value: object) -> bytes:
    """A value as JSON that a terminal may show: annotations, say, are whatever somebody wrote."""
    content = msgspec.json.encode(value, enc_hook=encode_hook)
    return content if content.isascii() else visible(content.decode()).encode()


def visible(text: str) -> str:
    """Without what a terminal would obey; as JSON writes it, so that JSON stays what it says."""
    return UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
