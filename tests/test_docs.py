"""The documentation: generated pages are current, links lead somewhere, and no command in it is made up."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from bmad_mcp.__main__ import cli
from bmad_mcp.catalog import CATALOG
from bmad_mcp.errors import BmadError
from bmad_mcp.lifecycles import LIFECYCLES
from bmad_mcp.server.listing import MADE
from bmad_mcp.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GENERATED = {"tools.md", "statuses.md", "settings.md", "errors.md"}


def load(name: str):
    """A program of the docs as a module."""
    found = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


def generator():
    return load("generate")


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


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The docs as a site."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page_and_a_front_page(site):
    for page in (ROOT / "docs").rglob("*.md"):
        at = page.relative_to(ROOT / "docs").with_suffix("")
        at = at.parent if at.name in ("index", "README") else at
        assert (site / at / "index.html").is_file()
    assert 'href="getting-started/"' in (site / "index.html").read_text()


def test_every_link_of_the_site_leads_to_a_file(site):
    for page in site.rglob("*.html"):
        # The page of what is not found is written for the root of a host.
        if page.name != "404.html":
            for target in re.findall(r'(?:href|src)="(?!https?:|mailto:|#|/)([^"#?]+)', page.read_text()):
                found = (page.parent / target).resolve()
                assert (found / "index.html" if found.is_dir() else found).is_file(), (page, target)


def test_the_front_page_and_the_list_of_decisions_name_every_page():
    listed = re.findall(r"\]\(([\w/.-]+\.md)\)", (ROOT / "docs/index.md").read_text())
    pages = [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs").glob("how-to/*.md"),
        *(ROOT / "docs").glob("reference/*.md"),
    ]
    assert {*listed} == {str(page.relative_to(ROOT / "docs")) for page in pages} - {"index.md"} | {"why/README.md"}
    decisions = re.findall(r"^- \[(.+)\]\((.+)\)$", (ROOT / "docs/why/README.md").read_text(), re.MULTILINE)
    written = {page.name: page.read_text().splitlines()[0] for page in (ROOT / "docs/why").glob("0*.md")}
    assert {file: f"# {title}" for title, file in decisions} == written


def drawings(site: Path) -> list[ElementTree.Element]:
    page = (site / "reference/statuses/index.html").read_text()
    return [ElementTree.fromstring(one) for one in re.findall(r'<svg class="states".*?</svg>', page, re.DOTALL)]


def is_on_the_frame(point: str, frame: dict[str, str]) -> bool:
    x, y = map(float, point.split(","))
    left, top = float(frame["x"]), float(frame["y"])
    right, bottom = left + float(frame["width"]), top + float(frame["height"])
    inside = left <= x <= right and top <= y <= bottom
    return inside and (x in (left, right) or y in (top, bottom))


def test_no_diagram_of_the_site_is_left_as_text(site):
    assert not [page for page in site.rglob("*.html") if "language-mermaid" in page.read_text()]
    assert len(drawings(site)) == len(LIFECYCLES)


@pytest.mark.parametrize("at", range(len(LIFECYCLES)), ids=[one.noun for one in LIFECYCLES])
def test_a_drawing_has_every_state_and_every_arrow(site, at):
    lifecycle, drawing = LIFECYCLES[at], drawings(site)[at]
    states = {state.find("text").text: [rect.attrib for rect in state.iter("rect")] for state in drawing.iter("g")
              if state.get("class") == "state"}  # fmt: skip
    assert set(states) == set(lifecycle.moves)
    assert {name for name, frames in states.items() if len(frames) == 2} == {
        word for word, targets in lifecycle.moves.items() if not targets
    }
    told = set()
    for arrow in (one for one in drawing.iter("g") if one.get("class") == "move"):
        source, target = arrow.find("title").text.split(" → ")
        begin, *_, end = arrow.find("path").get("d").replace("M", "").split(" ")
        assert is_on_the_frame(begin, states[source][0])
        assert is_on_the_frame(end.removeprefix("L"), states[target][0])
        told.add((source, target))
    assert told == {(word, to) for word, targets in lifecycle.moves.items() for to in targets if to != word}


def test_a_diagram_that_cannot_be_drawn_is_refused():
    drawn = load("diagrams")
    assert "<svg" in drawn.svg("stateDiagram-v2\n    a --> b\n    b --> [*]\n")
    for text in ("flowchart LR\n    a --> b\n", "stateDiagram-v2\n    a --> b : when\n"):
        with pytest.raises(ValueError, match="state diagrams"):
            drawn.svg(text)
