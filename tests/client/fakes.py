"""Workers that do one thing: a script, written with msgpack and without a line of multi_fetch."""

from __future__ import annotations

import signal
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


# It answers the first of three requests, begins to answer the second, and is to die at the third.
DYING = """
hello()
line(), line()
whole(1, b"whole")
begin(2); data(2, 0, b"a part")
line()
sys.stderr.write("its last words\\n")
sys.stderr.flush()
"""

# Deaths, and their exit statuses.
DEATHS = [
    ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ("sys.exit(70)", 70),
    ("raw(packed('end', 2, 6, DIGEST, 0)[:9]); os._exit(1)", 1),
]

# What streams first, and then turns out to be wrong.
ALTERED = """
hello()
line()
begin(1); data(1, 0, b"provisional"); line()
error(1, "digest-mismatch", want="sha256:a", got="sha256:b")
until_closed()
"""

STOPPED = "os.kill(os.getpid(), signal.SIGSTOP)"
# Workers that say nothing more, and after how many seconds that is too long. One has begun by then,
# on any machine: its start counts as silence too.
SILENT = [(STOPPED, 0.25), (f"hello(); line(); begin(1); {STOPPED}", 2)]


def fake(script: str) -> list[str]:
    """The command of a worker that runs a script; PRELUDE has its words."""
    return [sys.executable, "-c", PRELUDE + script]
