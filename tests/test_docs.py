"""The documentation: generated pages are current, links lead somewhere, and no command in it is made up."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bmad_mcp.__main__ import cli
from bmad_mcp.catalog import CATALOG
from bmad_mcp.errors import BmadError
from bmad_mcp.server.listing import MADE
from bmad_mcp.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GENERATED = {"tools.md", "statuses.md", "settings.md", "errors.md"}


def generator():
    found = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_the_reference_is_what_the_code_says(name):
    page = generator().PAGES[name]()
    assert (ROOT / "docs" / "reference" / name).read_text() == page, "run: python docs/generate.py"


def test_the_tool_list_that_servers_read_is_what_the_code_says():
    assert MADE.read_text() == generator().tool_lines(), "run: python docs/generate.py"


def test_the_reference_names_every_tool_and_variable():
    tools = (ROOT / "docs/reference/tools.md").read_text()
    for operation in CATALOG:
        assert operation.toolset is None or f"### `{operation.name}`" in tools
    settings = (ROOT / "docs/reference/settings.md").read_text()
    for name in Settings.model_fields:
        assert f"`BMAD_{name.upper()}`" in settings


def test_the_reference_names_the_code_of_every_error():
    told = (ROOT / "docs/reference/errors.md").read_text()
    kinds = [BmadError]
    for kind in kinds:
        kinds += [one for one in kind.__subclasses__() if one.__module__ == BmadError.__module__]
        assert f"| `{kind.code}` | {kind.http_status} |" in told
    assert len(kinds) == 13


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands():
    for page in PAGES:
        code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL)
        for line in re.findall(r"\bbmad-mcp ([a-z][a-z-]*(?: [a-z]+)?)", "\n".join(code)):
            yield pytest.param(line, id=f"{page.name}: {line}")


@pytest.mark.parametrize("command", sorted(set(commands()), key=lambda one: one.id))
def test_a_command_in_the_docs_exists(command):
    words = command.split()
    first = CliRunner().invoke(cli, [words[0], "--help"])
    assert first.exit_code == 0, first.output
    if words[0] == "db" and len(words) > 1:
        assert CliRunner().invoke(cli, [*words[:2], "--help"]).exit_code == 0


def test_the_readme_says_whose_mark_it_is():
    text = (ROOT / "README.md").read_text()
    assert "independent project" in text
    assert "make run" in text
    assert "make test" in text


def test_the_site_builds_with_every_page_and_no_dead_link(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (ROOT / "docs").rglob("*.md"):
        assert (tmp_path / "site" / page.relative_to(ROOT / "docs").with_suffix("") / "index.html").is_file()
