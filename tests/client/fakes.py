"""Workers that do one thing: a script, written with msgpack and without a line of multi_fetch."""

from __future__ import annotations

import sys

PRELUDE = r"""
import os, signal, struct, sys
import msgpack

DIGEST = "sha256:" + "0" * 64
out = sys.stdout.buffer

def raw(data):
    out.write(data)
    out.flush()

def packed(*frame):
    payload = msgpack.packb(frame)
    return struct.pack(">I", len(payload)) + payload

def send(*frame):
    raw(packed(*frame))

def hello(window=4, version=1, features=("cancel",)):
    send("hello", version, "r.example/app", window, 589824, list(features), str(os.getpid()))

def begin(id, object="latest", parent=None):
    described = {"mediaType": "text/plain", "digest": DIGEST, "size": None}
    send("begin", id, object, described, "r.example/app:latest", parent)

def data(id, offset, content):
    send("data", id, offset, content)

def end(id, size=0, digest=DIGEST, children=0):
    send("end", id, size, digest, children)

def whole(id, content):
    begin(id)
    data(id, 0, content)
    end(id, len(content))

def error(id, code="not-found", **detail):
    send("error", id, code, "made up", False, detail)

def bye():
    send("bye", 0, 0, 0, 0, {})

def line():
    return sys.stdin.buffer.readline().decode().rstrip("\n")

def until_closed():
    while line():
        pass
"""


def fake(script: str) -> list[str]:
    """The command of a worker that runs a script; PRELUDE has its words."""
    return [sys.executable, "-c", PRELUDE + script]
