"""What SECURITY.md and the page on upgrades promise is held against what the code, the locks and the migrations say."""

import re
import tomllib
from pathlib import Path

import pytest

from bmad_mcp.migrations_folder import newest_revision
from bmad_mcp.schema_version import SchemaVersion
from bmad_mcp.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "SECURITY.md").read_text()
TABLES = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
# Settings that hold a secret or lead to another party, each with the words of the row that tells of it.
ROWS = {
    "database_url": "server → PostgreSQL",
    "database_direct_url": "pooler between them",
    "database_read_url": "replica → server",
    "memory_url": "server → memory service",
    "memory_api_key": "keys of services",
    "encryption_keys": "encryption keys",
    "encryption_keys_file": "encryption keys",
    "tls_key": "the private key of TLS",
    "auth_issuer": "identity provider → server",
    "auth_jwks_url": "identity provider → server",
    "metrics_token": "access: tokens",
    "public_url": "network → server",
}


def test_every_setting_that_is_a_secret_or_leads_to_another_party_has_its_row():
    found = {
        name
        for name, field in Settings.model_fields.items()
        if "Secret" in str(field.annotation) or name.endswith(("_url", "_issuer", "_key", "_keys_file"))
    }
    assert found == set(ROWS)
    assert [words for words in ROWS.values() if words not in TABLES] == []


def test_what_is_installed_without_hashes_is_named():
    files = ("Makefile", "deploy/Dockerfile")
    lines = [line.strip() for file in files for line in (ROOT / file).read_text().splitlines() if " install " in line]
    # `--no-deps` is this package itself.
    loose = [line for line in lines if "--require-hashes" not in line and "--no-deps" not in line]
    packages = [re.search(r"install '?([a-z]+)", line)[1] for line in loose if "PIP) install" in line or "pip" in line]
    assert packages == ["atheris"]
    assert len(lines) - len(packages) >= 5
    told = PAGE.split("Not locked are:")[1]
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]) - {"dev"}
    assert all(word in told for word in (*packages, *(f"[{extra}]" for extra in extras), "npm", "uvx", "MCPB"))


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_line_of_a_lock_has_its_hashes(lock):
    parts = re.split(r"^(?=[\w.-]+(?:\[[^]]*\])?==)", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(parts) > 60
    assert [part.splitlines()[0] for part in parts if "--hash=sha256:" not in part] == []


def test_the_servers_that_work_on_the_newest_schema_are_those_that_the_page_names():
    versions = sorted((ROOT / "migrations/versions").glob("[0-9]*.py"), reverse=True)
    said = (re.search(r'^serves_from = "(\d+)"', one.read_text(), re.MULTILINE) for one in versions)
    serves_from = next((one[1] for one in said if one), "0001")
    page = (ROOT / "docs/how-to/upgrade.md").read_text()
    assert re.search(r"every server since revision (\d{4}) works", page)[1] == serves_from
    # A server of two revisions ago would find such a schema newer, and one from before `serves_from` too new.
    after = f"{int(newest_revision()) + 2:04}"
    assert SchemaVersion(after, serves_from).fit == "newer"
    assert SchemaVersion(after, after).fit == "too new"
