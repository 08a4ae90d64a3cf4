"""Writes the bill of materials of the locked dependencies into a dist folder: `python release/bill_of_materials.py dist`."""

import json
import os
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bmad_mcp import __version__

ROOT = Path(__file__).parent.parent


def write(dist: Path) -> Path:
    """Write `bmad-mcp.cdx.json` (CycloneDX 1.6) and return its path; raises ValueError when it breaks the format."""
    arguments = ["--pyproject", "pyproject.toml", "--mc-type", "application", "--spec-version", "1.6"]
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "cyclonedx_py",
            "requirements",
            "requirements.lock",
            *arguments,
            "--output-reproducible",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    bill = json.loads(made.stdout)
    # The version is not in pyproject.toml, where cyclonedx-py looks: hatchling takes it from the package.
    bill["metadata"]["component"] |= {"version": __version__, "purl": f"pkg:pypi/bmad-mcp@{__version__}"}
    text = json.dumps(bill, indent=2) + "\n"
    if (wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ValueError(f"The bill of materials is no CycloneDX: {wrong}")
    target = dist / "bmad-mcp.cdx.json"
    target.write_text(text, encoding="utf-8")
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(sys.argv[1]))}\n")
