"""What a worker that means harm can make its parent keep: measured in a parent's process."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")

MAX_BYTES = 150 * 1024 * 1024

WORDS = """
NOTES = {str(number): "" for number in range(8_000)}

def fat(id, parent=None, object="latest", name="n" * 4_000, **fields):
    described = {"mediaType": "m" * 255, "digest": DIGEST, "size": None, **fields}
    send("begin", id, object, described, name, parent)

def lines():
    number = 0
    while line():
        number += 1
        yield number

def tree(begin_child):
    line()
    begin(1); end(1, children=4096)
    for number in range(1, 65_536):
        begin_child(-number, parent=-((number - 1) // 4096) or 1)
        # One of them is the root.
        end(-number, children=4096 - (number == 15) if number <= 15 else 0)

hello(window=1_000_000)
"""
# Annotations take ten times as much as values than on the wire; a worker need end nothing.
FAT = "for number in lines():\n    fat(number, annotations=NOTES)\n    end(number)"
OPEN = """
for number in lines():
    fat(number, annotations=NOTES)
    if number == 1_000:
        break
os.kill(os.getpid(), signal.SIGKILL)
"""
URLS = 'for number in lines():\n    fat(number, urls=[""] * 60_000)\n    end(number)'
ERRORS = """
for number in lines():
    told = {"registry_code": "r" * 50_000, "other": "o" * 5_000}
    send("error", number, "c" * 300, "m" * 2_000, False, told)
"""
TINY = """
line(); begin(1)
for number in range(500_000):
    out.write(packed("data", 1, number, b"x"))
end(1, 500_000)
until_closed()
"""
TREE = """
tree(lambda id, parent: fat(
    id, parent, DIGEST, name="n" * 160, mediaType="m" * 200, annotations={"a": "b" * 200}
))
until_closed()
"""
NAMES = "tree(lambda id, parent: fat(id, parent, DIGEST)); until_closed()"
# Each fails at length, without a begin.
FAILURES = """
tree_told = {"registry_code": "r" * 500, "object": "o" * 60_000}
line()
begin(1); end(1, children=4096)
for number in range(1, 4097):
    send("error", -number, "not-found", "m" * 2_000, False, {**tree_told, "parent": 1})
until_closed()
"""

PARENT = """
import anyio, atexit, sys
from multi_fetch.client import AsyncWorker, Worker
from tests.client.fakes import fake

def told():
    status = open("/proc/self/status").read()
    print([line.split()[1] for line in status.splitlines() if "VmHWM" in line][0])

atexit.register(told)
kind, requests, script = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def submit(worker):
    return [worker.submit("latest", "children:all") for _ in range(requests)]

def use_threads():
    with Worker("app", command=fake(script)) as worker:
        answers = submit(worker)
        left = list(answers)
        while left:
            answer = left.pop()
            answer.wait()
            if not answer.error:
                left += answer.children()

async def use_tasks():
    async with AsyncWorker("app", command=fake(script)) as worker:
        answers = submit(worker)
        left = list(answers)
        while left:
            answer = left.pop()
            await answer.wait()
            if not answer.error:
                left += [child async for child in answer.children()]

try:
    use_threads() if kind == "threads" else anyio.run(use_tasks)
except Exception as error:
    # Behind it are the worker's last words, if it came to say any.
    print(str(error).splitlines()[0])
"""


@pytest.mark.parametrize("kind", ["threads", "tasks"])
@pytest.mark.parametrize(
    ("script", "requests"),
    [
        (FAT, 1_000),
        (OPEN, 1_000),
        (URLS, 600),
        (ERRORS, 3_000),
        (TINY, 1),
        (TREE, 1),
        (NAMES, 1),
        (FAILURES, 1),
    ],
    ids=["fat", "open", "urls", "errors", "tiny", "tree", "names", "failures"],
)
def test_whatever_a_worker_says_its_parent_keeps_less_than_a_bound(
    kind: str, script: str, requests: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, kind, str(requests), WORDS + script],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    *said, peak = done.stdout.splitlines()
    assert int(peak) * 1024 < MAX_BYTES
    assert all("the names below 1 are longer" in line for line in said) or script is OPEN
    assert not done.stderr
