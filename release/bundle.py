"""Packs the wheel of a dist folder into an MCP bundle beside it: `python release/bundle.py dist`."""

import json
import sys
import zipfile
from pathlib import Path

MANIFEST = Path(__file__).with_name("mcpb_manifest.json")
# Two builds of one source are one file.
STAMP = (2026, 1, 1, 0, 0, 0)


def pack(dist: Path) -> Path:
    """Write `bmad-mcp-VERSION.mcpb` into the folder and return it; raises FileNotFoundError without its wheel."""
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    wheel = dist / manifest["server"]["entry_point"]
    bundle = dist / f"bmad-mcp-{manifest['version']}.mcpb"
    contents = {"manifest.json": MANIFEST.read_bytes(), wheel.name: wheel.read_bytes()}
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, STAMP), content, zipfile.ZIP_DEFLATED)
    return bundle


if __name__ == "__main__":
    sys.stdout.write(f"{pack(Path(sys.argv[1]))}\n")
