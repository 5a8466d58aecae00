import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"], capture_output=True, text=True, check=False
    )


def test_the_demo_goes_as_it_says(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "All went as it should." in demo.stdout
    assert demo.stdout.count("8 requests: 6 succeeded, 2 failed") == 2
    assert "multi-fetch oci:layout" in demo.stdout
    assert demo.stdout.count("digest ok") == 5
    assert demo.stderr == ""


def test_the_demo_fits_a_terminal(demo: subprocess.CompletedProcess[str]) -> None:
    longest = max(demo.stdout.splitlines(), key=len)
    assert len(longest) <= 100, longest
