"""Where Docker and podman keep credentials: paths, in the order in which they are tried.

As containers/image does it (containers-auth.json(5)): podman's own file first, then Docker's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

AUTH_FILE_VARIABLE: Final = "REGISTRY_AUTH_FILE"
RUNTIME_VARIABLE: Final = "XDG_RUNTIME_DIR"
CONFIG_VARIABLE: Final = "XDG_CONFIG_HOME"
DOCKER_VARIABLE: Final = "DOCKER_CONFIG"


def own_places() -> list[Path]:
    """The places of whoever runs this process."""
    return places(os.environ)


def places(environment: Mapping[str, str]) -> list[Path]:
    """The candidates; they need not exist.

    Args:
        environment: its variables. ``REGISTRY_AUTH_FILE`` is the only place where it is set.
    """
    if only := environment.get(AUTH_FILE_VARIABLE):
        return [Path(only)]
    home = Path(environment.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises
    runtime = environment.get(RUNTIME_VARIABLE)
    podman = Path(runtime, "containers") if runtime else Path(f"/run/containers/{os.getuid()}")
    return [
        podman / "auth.json",
        Path(environment.get(CONFIG_VARIABLE) or home / ".config") / "containers" / "auth.json",
        Path(environment.get(DOCKER_VARIABLE) or home / ".docker") / "config.json",
        home / ".dockercfg",
    ]
