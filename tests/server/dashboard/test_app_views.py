"""The views as documents and files: small, closed, safe to show, and told only to hosts that may show them."""

import base64
import hashlib
import json
import re

import pytest
from apps_host import SHOWS_VIEWS
from auth_server import guarded_server
from chromium import IN_ONE_LOOP
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.operation import TOOLSETS
from bmad_mcp.server.dashboard.app_views import MIME_TYPE, TITLES, VIEWS, document
from bmad_mcp.server.dashboard.assets import FOLDER, NAMES, imports_of, modules_of, source_of
from bmad_mcp.server.mcp import McpFace

MODULES = [name for name in NAMES if name.endswith(".js")]
# What could make elements or code of a text.
MAKES_CODE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc"
    r"|\beval\b|new Function|setAttributeNS|setAttribute\(\"(on|style)"
)
OWN_NAMESPACE = "http://www.w3.org/2000/svg"


def face(workspace) -> McpFace:
    return McpFace(workspace, lambda _: Caller(), toolsets=TOOLSETS)


@pytest.mark.parametrize("uri", TITLES)
def test_a_view_is_small_loads_nothing_and_allows_only_itself(uri):
    text = document(uri)
    assert len(text.encode()) <= 150_000
    outside = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert set(outside) <= {OWN_NAMESPACE}
    assert not re.search(r"<(?:link|img|iframe|script\s)|@import|url\(", text)
    policy = dict(part.split(" ", 1) for part in re.search(r'Policy" content="([^"]+)"', text)[1].split("; "))
    assert policy["default-src"] == "'none'"
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        wanted = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{wanted}'"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_makes_no_code_of_texts_and_imports_in_the_one_way_that_is_understood(name):
    source = source_of(name)
    assert not MAKES_CODE.search(source)
    told = re.findall(r"^[ \t]*(?:import|export)\b.*|\bimport\(.*", source, re.MULTILINE)
    plain = re.compile(
        r'import \{ [\w, ]+ \} from "\./[\w-]+\.js";|export (?:async function|function|class|const) \w+.*'
    )
    assert all(plain.fullmatch(line) for line in told), told
    assert set(imports_of(name)) <= set(NAMES)
    used = re.findall(r'(?:\bcall|\b_call|\b_write|\ball)\("(\w+)"', source)
    assert set(used) <= set(BY_NAME)


def test_every_module_is_used_and_fits_in_the_head():
    assert set(modules_of("app.js")) | set(modules_of("dashboard.js")) == set(MODULES)
    for path in FOLDER.iterdir():
        assert len(path.read_text().splitlines()) <= 400, path.name


@IN_ONE_LOOP
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_only_a_host_that_shows_views_is_told_which_tools_have_one(workspace, mode):
    async with Client(face(workspace).server, mode=mode) as client:
        plain = {tool.name: tool.model_dump_json(by_alias=True) for tool in (await client.list_tools()).tools}
    async with Client(face(workspace).server, mode=mode, extensions=[SHOWS_VIEWS]) as client:
        shown = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {name: tool.meta["ui"]["resourceUri"] for name, tool in shown.items() if tool.meta} == VIEWS
        for uri in VIEWS.values():
            (content,) = (await client.read_resource(uri)).contents
            assert content.mime_type == MIME_TYPE
            assert content.text == document(uri)
        # Hosts find views by their tools; in the list of resources they would only cost.
        assert not [one for one in (await client.list_resources()).resources if str(one.uri).startswith("ui:")]
    assert not [text for text in plain.values() if "ui://" in text]
    for name, tool in shown.items():
        more = len(tool.model_dump_json(by_alias=True)) - len(plain[name])
        assert more <= (64 if name in VIEWS else 0), name
    assert all(json.loads(text)["name"] in shown for text in plain.values())


@IN_ONE_LOOP
async def test_over_http_the_older_protocol_does_not_say_who_asks_so_everybody_is_told(workspace):
    async with guarded_server(workspace, is_authenticated=False) as served:
        told = {}
        for mode in ("auto", "legacy"):
            async with Client(streamable_http_client(served.resource), mode=mode) as client:
                told[mode] = {tool.name for tool in (await client.list_tools()).tools if tool.meta}
    assert told == {"auto": set(), "legacy": set(VIEWS)}
