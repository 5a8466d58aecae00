"""Looks at runs that never were."""

from __future__ import annotations

from multi_fetch.oci.digest import parse_digest
from multi_fetch.worker.progress import Look, Running

MIB = 1024 * 1024


def running(count: int, *, size: int | None = 10 * MIB, sent: int = MIB) -> tuple[Running, ...]:
    """So many objects, each a little larger than the one before."""
    return tuple(
        Running(
            number,
            parse_digest(f"sha256:{number:064x}"),
            None if size is None else size + number,
            sent,
        )
        for number in range(1, count + 1)
    )


def a_look(
    *,
    requests: int = 4_000,
    succeeded: int = 1_200,
    failed: int = 3,
    received: int = 512 * MIB,
    flying: tuple[Running, ...] = (),
    remaining: int | None = 1024 * MIB,
    is_input_over: bool = True,
) -> Look:
    return Look(
        requests=requests,
        succeeded=succeeded,
        failed=failed,
        bytes=received,
        running=flying,
        remaining_bytes=remaining,
        is_input_over=is_input_over,
    )
