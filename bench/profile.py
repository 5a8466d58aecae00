"""Where the worker's time goes: ``make profile``.

The worker runs under cProfile over the small objects of the bench, on the same nginx; its own time
is added up by module, and the most expensive functions follow. cProfile itself takes a good part
of the time, and more of it from small functions: what is read here are shares.
"""

from __future__ import annotations

import argparse
import pstats
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import nginx
from bench.clients import multi_fetch_line
from bench.content import FULL, KIB, REPOSITORY, Shape, Storage

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS: Final = Path(__file__).with_name("results")
TOP: Final = 25


class Cost(NamedTuple):
    """A function's own time, in seconds."""

    seconds: float
    calls: int
    module: str
    name: str


def costs(path: Path) -> list[Cost]:
    """Of each function of a profile, the most expensive first."""
    found = []
    for (file, line, name), (_, calls, own, _, _) in _entries(path):
        module = module_of(file)
        found.append(Cost(own, calls, module, f"{name}:{line}" if line else name))
    return sorted(found, reverse=True)


def _entries(
    path: Path,
) -> Iterable[tuple[tuple[str, int, str], tuple[int, int, float, float, object]]]:
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]]
    stats = vars(pstats.Stats(str(path)))["stats"]
    return stats.items()


def module_of(file: str) -> str:
    """``multi_fetch.worker.job``; of others the package; what is written in C is built in."""
    if file in {"~", ""} or file.startswith("<"):
        return "built in"
    parts = Path(file).with_suffix("").parts
    for root in ("src", "site-packages"):
        if root in parts:
            below = parts[parts.index(root) + 1 :]
            return ".".join(below if below[0] == "multi_fetch" else below[:1])
    return f"python: {parts[-1]}"


def profile(address: str, lines: str, path: Path) -> None:
    command = [sys.executable, "-m", "cProfile", "-o", str(path), "-m", "multi_fetch"]
    subprocess.run(
        [*command, f"{address}/{REPOSITORY}"],
        input=lines.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def told(found: list[Cost], objects: int) -> str:
    total = sum(cost.seconds for cost in found)
    modules: Counter[str] = Counter()
    for cost in found:
        modules[cost.module] += cost.seconds  # type: ignore[assignment]  # seconds add up as well
    lines = [f"{total:.2f} s under cProfile, {total / objects * 1e6:.0f} us an object", ""]
    lines += [
        f"{seconds / total:6.1%} {seconds / objects * 1e6:7.1f} us  {module}"
        for module, seconds in modules.most_common(TOP)
    ]
    lines += ["", "own time, by function"]
    lines += [
        f"{cost.seconds / total:6.1%} {cost.seconds / objects * 1e6:7.1f} us"
        f" {cost.calls / objects:7.2f} calls  {cost.module} {cost.name}"
        for cost in found[:TOP]
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.profile", description=__doc__)
    parser.add_argument("--objects", type=int, default=FULL[0].count, help="default %(default)s")
    objects: int = parser.parse_args().objects
    if not nginx.is_installed():
        print(f"{nginx.COMMAND} is not installed (Debian: apt-get install nginx-light)")
        return 1
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "profile.pstats"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        directory = Path(folder)
        with nginx.nginx(directory) as web:
            storage = Storage(directory / "storage", web.root)
            blobs = storage.add_static(Shape("small", objects, 4 * KIB)).blobs
            lines = "".join(f"{multi_fetch_line(blob)}\n" for blob in blobs)
            profile(web.address, lines, path)
    print(told(costs(path), objects))
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
