"""Makes examples/layout: a small image for two platforms, and an artifact.

    python examples/make_layout.py [folder]

It gives the same bytes on every machine, so the layout is committed and a test compares. Layers
are plain tar: compressors differ from one zlib to the next.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.testing.builder import LayoutBuilder

if TYPE_CHECKING:
    from multi_fetch.testing.layout import Layout

HERE = Path(__file__).parent
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CREATED = "2024-01-01T00:00:00Z"


def tar_of_one_file(name: str, content: bytes) -> bytes:
    """A tar archive with one file, whose bytes depend on nothing else."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o755
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    end = bytes(2 * tarfile.BLOCKSIZE)
    return entry.tobuf(tarfile.USTAR_FORMAT) + content + padding + end


def add_image(builder: LayoutBuilder, architecture: str, base: Descriptor) -> Descriptor:
    """An image of two layers: the shared base, and one for the architecture."""
    program = f"#!/bin/sh\necho 'hello from linux/{architecture}'\n".encode()
    layer = builder.add_blob(tar_of_one_file("bin/hello", program), LAYER_TYPE)
    config = {
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [str(base.digest), str(layer.digest)]},
    }
    config_blob = builder.add_blob(msgspec.json.encode(config), CONFIG_TYPE)
    platform = Platform(os="linux", architecture=architecture)
    return builder.add_image(config_blob, [base, layer], platform=platform)


def make_layout(folder: Path) -> Layout:
    """Makes the layout in a folder, which may have an older one of the same content."""
    builder = LayoutBuilder(folder)
    base = builder.add_blob(tar_of_one_file("etc/motd", b"a layer that both share\n"), LAYER_TYPE)
    images = [add_image(builder, architecture, base) for architecture in ("amd64", "arm64")]
    builder.tag("latest", builder.add_index(images, annotations={"made.by": "make_layout.py"}))
    notes = builder.add_blob(b"# Release notes\n\nThe first one.\n", "text/markdown")
    artifact = builder.add_image(
        builder.add_empty(), [notes], artifact_type="application/vnd.example.notes.v1"
    )
    builder.tag("notes", artifact)
    return builder.finish()


if __name__ == "__main__":
    make_layout(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "layout")
