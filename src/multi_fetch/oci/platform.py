"""Platforms: their names, and which manifest of an index serves one.

Follows containerd's platforms package: names are normalised (``x86_64`` is ``amd64``, ``arm64/v8``
is ``arm64``), and a CPU runs what was built for an older variant of it (``arm/v7`` takes ``v6``
if there is no ``v7``). It does not take another architecture, as ``386`` for ``amd64``: who asks
for a platform by name wants that one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from multi_fetch.errors import InvalidRequestError
from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.oci.quote import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# containerd, platforms.go, specifierRe: each component is [A-Za-z0-9_-]+; dots stand in variants
# such as v8.1.
COMPONENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
PLATFORM = re.compile(rf"{COMPONENT.pattern}(?:/{COMPONENT.pattern}){{1,2}}")
VERSION = re.compile(r"v?([0-9]{1,2})(?:\.([0-9]{1,2}))?")

# containerd, database.go: normalizeOS and normalizeArch
_SYSTEMS: Final[Mapping[str, str]] = {"macos": "darwin"}
_ARCHITECTURES: Final[Mapping[str, tuple[str, str]]] = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
# The variant that goes without saying.
_DEFAULT_VARIANTS: Final[Mapping[str, str]] = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
# The oldest that a newer CPU of the architecture still runs.
_OLDEST_VERSIONS: Final[Mapping[str, int]] = {"amd64": 1, "arm": 5, "arm64": 8}


def parse_platform(text: str) -> Platform:
    """Reads ``<os>/<architecture>[/<variant>]``, normalised.

    Raises:
        InvalidRequestError: the text is no platform.
    """
    parts = text.split("/")
    if len(parts) not in {2, 3} or not all(COMPONENT.fullmatch(part) for part in parts):
        raise InvalidRequestError(
            f"{quote(text)} is not a platform: write <os>/<architecture>[/<variant>],"
            " as in linux/arm64 or linux/arm/v7"
        )
    os, architecture, variant = (*parts, "")[:3]
    return normalised(Platform(os=os, architecture=architecture, variant=variant))


def normalised(platform: Platform) -> Platform:
    """The platform in containerd's canonical names, its variant always written out."""
    system = platform.os.lower()
    architecture = platform.architecture.lower()
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = platform.variant.lower() or implied or _DEFAULT_VARIANTS.get(architecture, "")
    if architecture in _DEFAULT_VARIANTS and variant[:1].isdigit():
        variant = f"v{variant}"
    return replace(
        platform, os=_SYSTEMS.get(system, system), architecture=architecture, variant=variant
    )


def select(manifests: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """The manifest that serves a platform best: of the newest variant that it runs.

    Args:
        manifests: of an index; those that name no platform never match.
        wanted: normalised.
    """
    best: Descriptor | None = None
    best_rank: tuple[int, int] | None = None
    for manifest in manifests:
        if manifest.platform is None:
            continue
        rank = _rank(normalised(manifest.platform), wanted)
        if rank is not None and (best_rank is None or rank > best_rank):
            best, best_rank = manifest, rank
    return best


def names(manifests: Sequence[Descriptor]) -> list[str]:
    """The platforms of an index, sorted, for messages; without what is no platform's name."""
    written = {str(each.platform) for each in manifests if each.platform is not None}
    return sorted(text for text in written if PLATFORM.fullmatch(text))


def _rank(offered: Platform, wanted: Platform) -> tuple[int, int] | None:
    """How new the offered variant is; None if the wanted platform cannot run it."""
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return None
    if offered.variant == wanted.variant:
        return 99, 99
    have, need = _version(wanted.variant), _version(offered.variant)
    oldest = _OLDEST_VERSIONS.get(wanted.architecture)
    if have is None or need is None or oldest is None or not (oldest, 0) <= need <= have:
        return None
    return need


def _version(variant: str) -> tuple[int, int] | None:
    match = VERSION.fullmatch(variant)
    return (int(match[1]), int(match[2] or 0)) if match else None
