"""The OpenAPI document: valid, complete, and made once; and the page that shows it."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from jsonschema import Draft202012Validator

from bmad_mcp.catalog import CATALOG
from bmad_mcp.operation import Operation
from bmad_mcp.server.rest.openapi import build
from bmad_mcp.server.rest.problems import KINDS
from bmad_mcp.server.rest.ways import Paths, ways_of

WAYS = ways_of(CATALOG)
DOCUMENT = build(WAYS)
TOLD = [
    pytest.param(path, verb, told, id=told["operationId"])
    for path, verbs in DOCUMENT["paths"].items()
    for verb, told in verbs.items()
]


def schemas(value):
    """Every schema in the document with its references put in place by the whole document."""
    if isinstance(value, dict):
        if "schema" in value and isinstance(value["schema"], dict):
            yield value["schema"]
        for item in value.values():
            yield from schemas(item)
    elif isinstance(value, list):
        for item in value:
            yield from schemas(item)


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def validates(schema, value):
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole).validate(value)


def test_the_document_is_whole():
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert len(DOCUMENT["paths"]) >= 25
    ids = [told["operationId"] for verbs in DOCUMENT["paths"].values() for told in verbs.values()]
    assert len(ids) == len(set(ids)) == len(WAYS)
    assert {one.name for one in CATALOG} <= set(ids)
    for reference in set(references(DOCUMENT)):
        found = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    used = {one.rsplit("/", 1)[1] for one in references(DOCUMENT) if "/schemas/" in one}
    assert used == set(DOCUMENT["components"]["schemas"]), "a schema that nothing refers to"
    for schema in [*schemas(DOCUMENT), *DOCUMENT["components"]["schemas"].values()]:
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("path", "verb", "told"), TOLD)
def test_an_operation_is_told_with_everything(path, verb, told):
    assert told["summary"]
    assert told["description"]
    assert told["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    parameters = told.get("parameters", [])
    assert {one["name"] for one in parameters if one["in"] == "path"} == set(re.findall(r"\{(\w+)\}", path))
    assert all(len(one["description"].split()) > 1 for one in parameters)
    assert {"400", "401", "403", "422", "503"} <= set(told["responses"])
    success = told["responses"].get("200") or told["responses"]["201"]
    content = success["content"]["application/json"]
    validates(content["schema"], content["examples"]["sample"]["value"])
    for one in parameters:
        if "example" in one:
            validates(one["schema"], one["example"])
    assert ("requestBody" in told) == (verb != "get")
    if verb != "get":
        body = told["requestBody"]["content"]["application/json"]
        assert body["schema"]["additionalProperties"] is False
        assert all(len(member["description"].split()) > 1 for member in body["schema"]["properties"].values())
        validates(body["schema"], body["examples"]["sample"]["value"])
        assert "Idempotency-Key" in {one["name"] for one in parameters}


async def test_it_is_made_at_its_first_request_and_then_kept(rest, monkeypatch):
    first = await rest.get("/openapi.json")
    monkeypatch.setattr("bmad_mcp.server.rest.app.document", lambda _: b"made again")
    again = await rest.get("/openapi.json")
    assert first.content == again.content
    assert first.json()["paths"].keys() == DOCUMENT["paths"].keys()
    assert first.headers["content-type"] == "application/json"


def test_two_ways_never_share_a_path_and_a_verb():
    pairs = [(way.verb, way.path) for way in WAYS]
    assert len(pairs) == len(set(pairs))
    shapes = [(way.verb, re.sub(r"\{\w+\}", "{}", way.path)) for way in WAYS]
    assert len(shapes) == len(set(shapes))


def test_a_preset_is_an_argument_that_the_operation_takes():
    for way in WAYS:
        assert {*way.preset, *way.in_path} <= set(way.operation.arguments.model_fields)
        assert "?" not in way.path


def test_a_literal_wins_in_whatever_order_the_catalogue_has():
    for ways in (WAYS, WAYS[::-1]):
        paths = Paths(ways)
        assert paths.find(["stories", "next"])[0]["GET"].operation.name == "story_next"
        assert paths.find(["agents", "active"])[0]["GET"].preset == {"status": "active"}
        assert paths.find(["stories", "1.2"])[1] == {"story": "1.2"}
        assert paths.find(["stories", ""]) is None


def test_an_operation_is_named_nowhere_in_the_rest_code():
    """One definition: what REST knows of an operation, it knows of its definition."""
    from pathlib import Path

    import bmad_mcp.server.rest.app as app

    names = {one.name for one in CATALOG if isinstance(one, Operation)}
    for source in Path(app.__file__).parent.glob("*.py"):
        text = re.sub(r'""".*?"""|#.*', "", source.read_text(), flags=re.DOTALL)
        assert not [name for name in names if re.search(rf"\b{name}\b", text) and "_" in name], source.name


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def having(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


@pytest.fixture
async def page(rest):
    answer = await rest.get(f"{rest.origin}/docs")
    assert answer.status_code == 200
    return answer


async def test_the_page_shows_every_operation_with_a_form(page):
    found = Page(page.text)
    for way in WAYS:
        assert f'id="{way.id}"' in page.text
    forms = [attributes for tag, attributes in found.tags if tag == "form" and "data-path" in attributes]
    assert {(one["data-verb"], one["data-path"]) for one in forms} == {(way.verb, way.path) for way in WAYS}
    filled = {attributes["id"]: attributes.get("value") for tag, attributes in found.tags if tag == "input"}
    assert (filled["task_list-ready"], filled["task_list-limit"]) == ("true", "2"), "a form that is sent as it is works"
    assert all(f'id="problem-{code}"' in page.text for code in KINDS)
    assert all(one.resource in page.text for one in CATALOG if one.resource)


async def test_the_page_loads_nothing_from_elsewhere_and_its_policy_lets_nothing_in(page):
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    found = Page(page.text)
    assert not found.having("style")
    assert not found.having("src")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert {link[:1] for link in found.having("href") if not link.startswith("data:")} <= {"#", "/"}
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.text.replace("https://board.example", ""))
    for tag in ("style", "script"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)[1]
        wanted = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{wanted}'" in policy[f"{tag}-src"], f"the browser would refuse the page's own {tag}"


async def test_the_page_can_be_used_with_a_keyboard_and_a_screen_reader(page):
    found = Page(page.text)
    assert {"main", "header", "nav", "h1", "h2", "h3", "summary"} <= {tag for tag, _ in found.tags}
    assert ("html", {"lang": "en"}) in found.tags
    assert "prefers-color-scheme: dark" in page.text
    ids = found.having("id")
    assert len(ids) == len(set(ids))
    inputs = {attributes["id"] for tag, attributes in found.tags if tag in ("input", "textarea")}
    assert inputs == set(found.having("for")), "a field without a label"
    for reference in (*found.having("aria-labelledby"), *found.having("aria-describedby")):
        assert reference in ids
    assert all(link[1:] in ids for link in found.having("href") if link.startswith("#"))
    assert all("tabindex" in attributes for tag, attributes in found.tags if tag == "pre")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("OPTIONS", 204), ("POST", 405), ("DELETE", 405)])
async def test_the_page_takes_get(rest, method, status):
    answer = await rest.request(method, f"{rest.origin}/docs")
    assert answer.status_code == status
    assert status == 200 or answer.headers["allow"] == "GET, HEAD, OPTIONS"
