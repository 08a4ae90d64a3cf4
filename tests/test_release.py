"""What a release is made of: one version everywhere, and manifests that those who read them accept."""

import importlib.resources
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import jsonschema
import pytest
from bmad_installs import newest_node, npm_installed
from click.testing import CliRunner

from bmad_mcp import __version__
from bmad_mcp.__main__ import cli
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.settings import Settings

ROOT = Path(__file__).parent.parent
MCPB = "2.1.2"
VARIABLES = {f"BMAD_{name.upper()}" for name in Settings.model_fields}


def read(path: str):
    return json.loads((ROOT / path).read_text())


REGISTRY, PLUGIN = read("server.json"), read("plugin/.claude-plugin/plugin.json")
BUNDLE, HOSTED = read("release/mcpb_manifest.json"), read("plugin/.mcp.json")
WORDS = sorted([*(ROOT / "plugin").glob("commands/*.md"), *(ROOT / "plugin").glob("skills/*/SKILL.md")])


def test_every_manifest_tells_the_same_version():
    told = [REGISTRY["version"], REGISTRY["packages"][0]["version"], PLUGIN["version"], BUNDLE["version"]]
    assert set(told) == {__version__}
    assert BUNDLE["server"]["entry_point"] == f"bmad_mcp-{__version__}-py3-none-any.whl"
    assert BUNDLE["server"]["mcp_config"]["args"][1] == f"${{__dirname}}/{BUNDLE['server']['entry_point']}"


def test_every_manifest_tells_the_same_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["name"], REGISTRY["packages"][0]["identifier"], PLUGIN["name"], BUNDLE["name"]} == {"bmad-mcp"}
    assert {PLUGIN["displayName"], BUNDLE["display_name"], REGISTRY["title"]} == {REGISTRY["title"]}
    assert project["license"] == PLUGIN["license"] == BUNDLE["license"]
    assert project["requires-python"] == BUNDLE["compatibility"]["runtimes"]["python"]


def test_the_entry_for_the_registry_is_what_the_registry_s_schema_says():
    # The schema comes with skillsaw, which has each published one byte for byte.
    date = re.search(r"/schemas/([\d-]+)/server\.schema\.json$", REGISTRY["$schema"]).group(1)
    kept = importlib.resources.files("skillsaw") / "schemas/mcp_registry"
    newest = max(one.name for one in kept.iterdir() if one.name.startswith("v"))
    assert f"v{date.replace('-', '_')}" == newest
    schema = json.loads((kept / newest / "server.schema.json").read_text())
    assert schema["$id"] == REGISTRY["$schema"]
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(REGISTRY)] == []
    assert list(validator.iter_errors(REGISTRY | {"name": "bmad-mcp"}))


def test_the_registry_finds_its_name_in_the_readme():
    # The registry compares the two before it believes that the package is ours.
    assert f"mcp-name: {REGISTRY['name']} " in (ROOT / "README.md").read_text()
    # Whoever publishes has to change it, and finds where in one place.
    told = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"`{REGISTRY['name']}`" in told
    listed = subprocess.run(["git", "-C", str(ROOT), "grep", "-l", REGISTRY["name"]], capture_output=True, text=True)
    if listed.returncode == 0:
        assert sorted(listed.stdout.split()) == ["CONTRIBUTING.md", "README.md", "server.json"]


def test_every_variable_in_a_manifest_is_one_that_the_server_reads():
    told = {one["name"] for one in REGISTRY["packages"][0]["environmentVariables"]}
    told |= set(BUNDLE["server"]["mcp_config"]["env"])
    assert told <= VARIABLES
    secret = {one["name"] for one in REGISTRY["packages"][0]["environmentVariables"] if one.get("isSecret")}
    assert secret == {"BMAD_DATABASE_URL"}
    asked = set(re.findall(r"\$\{user_config\.(\w+)\}", json.dumps(BUNDLE)))
    assert asked == set(BUNDLE["user_config"])


@pytest.mark.parametrize(
    "arguments",
    [
        [one["value"] for one in REGISTRY["packages"][0]["packageArguments"]],
        BUNDLE["server"]["mcp_config"]["args"][3:],
        HOSTED["mcpServers"]["bmad"]["args"],
    ],
)
def test_the_command_that_a_manifest_starts_exists(arguments):
    done = CliRunner().invoke(cli, [*arguments, "--help"])
    assert done.exit_code == 0, done.output
    assert "MCP over stdio" in done.output or "stdio" in done.output


@pytest.mark.parametrize("page", WORDS, ids=lambda page: page.parent.name + "/" + page.name)
def test_the_plugin_names_tools_that_there_are(page):
    named = {one for one in re.findall(r"`([a-z]+_[a-z_]+)`", page.read_text()) if one not in ("lease_until",)}
    arguments = {name for one in BY_NAME.values() for name in one.arguments.model_fields}
    assert named - arguments, page
    assert named - arguments <= set(BY_NAME), page


def test_a_linter_of_registries_plugins_and_skills_has_nothing_to_say(tmp_path):
    linter = [str(Path(sys.executable).with_name("skillsaw")), "lint"]
    (tmp_path / "registry").mkdir()
    shutil.copy(ROOT / "server.json", tmp_path / "registry")
    for folder in (tmp_path / "registry", ROOT / "plugin"):
        done = subprocess.run([*linter, str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"Errors: +0\s+Warnings: +0", done.stdout), done.stdout


def test_the_bundle_is_one_that_hosts_install(tmp_path):
    found = importlib.util.spec_from_file_location("bundle", ROOT / "release" / "bundle.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    with pytest.raises(FileNotFoundError):
        module.pack(tmp_path)
    wheel = tmp_path / BUNDLE["server"]["entry_point"]
    wheel.write_bytes(b"the wheel")
    bundle = module.pack(tmp_path)
    assert sorted(zipfile.ZipFile(bundle).namelist()) == [wheel.name, "manifest.json"]
    first = bundle.read_bytes()
    assert module.pack(tmp_path).read_bytes() == first
    program = npm_installed("@anthropic-ai/mcpb", MCPB)
    entry = program / json.loads((program / "package.json").read_text())["bin"]
    for command in (
        ["validate", str(ROOT / "release/mcpb_manifest.json")],
        ["unpack", str(bundle), str(tmp_path / "out")],
    ):
        done = subprocess.run([newest_node(), str(entry), *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / wheel.name).read_bytes() == b"the wheel"


def test_the_source_distribution_is_enough_to_build_and_test(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode == 0:
        kept = {name for name in listed.stdout.splitlines() if not name.startswith(".ci/")}
        assert not kept - names, sorted(kept - names)[:20]
    assert {"Makefile", "pyproject.toml", "requirements.lock", "migrations/env.py", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "dist/"))]
