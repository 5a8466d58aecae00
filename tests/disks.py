"""Disks that are full: a tmpfs of one's own, in a namespace of its own."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def run_where_mounts_are_own(script: str, *words: str | Path, timeout_seconds: float) -> None:
    """Runs a shell script that may mount; the test is skipped where nobody but root may."""
    unshare = shutil.which("unshare")
    if unshare is None or not _may_mount(unshare):
        pytest.skip("no tmpfs of one's own can be mounted here (unshare -rm)")
    command = [unshare, "-rm", "sh", "-c", script, "sh", *words]
    subprocess.run(command, check=True, timeout=timeout_seconds)


def _may_mount(unshare: str) -> bool:
    command = [unshare, "-rm", "sh", "-c", 'mount -t tmpfs tmpfs "$0"', "/mnt"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
