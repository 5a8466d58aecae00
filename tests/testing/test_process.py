import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from multi_fetch.testing.process import running_registry
from tests.testing.conftest import BLOB, Sample


def test_a_registry_runs_for_the_block_and_no_longer(sample: Sample) -> None:
    with running_registry(sample.layout.folder) as address:
        url = f"http://{address}{sample.blob_path}"
        assert httpx.get(url, trust_env=False).content == BLOB
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_block_that_fails_leaves_no_process_behind(sample: Sample) -> None:
    with pytest.raises(KeyError), running_registry(sample.layout.folder) as address:
        raise KeyError
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{address}/v2/", trust_env=False)


def test_a_folder_that_is_no_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stderr"), running_registry(tmp_path):
        pass


def test_importing_it_does_not_need_the_server(tmp_path: Path) -> None:
    """A script that only starts the process pays for neither trio nor h11."""
    code = "import sys, multi_fetch.testing.process; print({'trio', 'h11'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout == "set()\n"
