import subprocess
import sys
from pathlib import Path

from multi_fetch.testing.layout import read_layout

EXAMPLES = Path(__file__).parents[2] / "examples"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_committed_layout_is_what_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLES / "make_layout.py", tmp_path], check=True)
    assert files(tmp_path) == files(EXAMPLES / "layout")


def test_the_layout_has_what_the_documentation_names() -> None:
    """Two tags; an index of two platforms whose images share a layer; a few KiB in all."""
    layout = read_layout(EXAMPLES / "layout")
    assert set(layout.tags) == {"latest", "notes"}
    platforms = {str(each.platform) for each in layout.manifests.values() if each.platform}
    assert platforms == {"linux/amd64", "linux/arm64"}
    content = files(EXAMPLES / "layout")
    # 2 manifests, 2 configs, 3 layers, 1 index; the artifact's manifest, config and content
    assert len([name for name in content if name.startswith("blobs/")]) == 11
    assert sum(map(len, content.values())) < 16 * 1024
