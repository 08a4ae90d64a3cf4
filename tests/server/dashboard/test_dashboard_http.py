"""The dashboard's page, its files and what it reads beside REST, over HTTP."""

from auth_server import guarded_server
from chromium import IN_ONE_LOOP

from bmad_mcp.server.dashboard.assets import NAMES
from bmad_mcp.server.dashboard.routes import ENTRY, PUBLIC_PATHS
from bmad_mcp.server.dashboard.shown_settings import shown_settings
from bmad_mcp.server.resources import RESOURCES
from bmad_mcp.settings import Settings

pytestmark = IN_ONE_LOOP


async def test_the_page_and_its_files_come_under_a_strict_policy_and_know_no_project(workspace):
    async with guarded_server(workspace) as guarded:
        page = await guarded.client.get("/")
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'",) * 3
        assert policy["require-trusted-types-for"] == "'script'"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert f'src="dashboard/{ENTRY}"' in page.text
        for name in NAMES:
            answer = await guarded.client.get(f"/dashboard/{name}")
            assert answer.status_code == 200
            assert workspace.opened.key not in answer.text
            again = await guarded.client.get(f"/dashboard/{name}", headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert (await guarded.client.get("/dashboard/../auth.py")).status_code == 401
        assert (await guarded.client.get("/dashboard/app.html")).status_code == 401


async def test_a_resource_is_told_as_json_and_as_text_to_who_may_read_it(workspace, run):
    await run("epic_create", title="Epic")
    await run("story_create", epic="1", title="A story")
    assert not {"/dashboard/resource.json", "/dashboard/settings.json"} & PUBLIC_PATHS
    async with guarded_server(workspace) as guarded:
        client, path = guarded.client, "/dashboard/resource.json"
        assert (await client.get(path)).status_code == 401
        client.headers["authorization"] = f"Bearer {await guarded.token('reader', 'read', role='viewer')}"
        assert (await client.get(path)).json() == {"addresses": [one.resource for one, _ in RESOURCES]}
        found = (await client.get(path, params={"address": "bmad://stories/1.1"})).json()
        assert (found["mime_type"], found["json"]["title"]) == ("text/markdown", "A story")
        assert "A story" in found["text"]
        for address in ("bmad://nothing", "ui://bmad/board", "https://example.com", "", "bmad://stories/9.9"):
            refused = await client.get(path, params={"address": address})
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found"), address


async def test_settings_are_for_admins(workspace):
    shown = tuple(shown_settings(Settings(project="x")))
    async with guarded_server(workspace, settings=shown) as guarded:
        for role, scope, status in (("admin", "admin", 200), ("member", "write", 403), ("viewer", "read", 403)):
            headers = {"authorization": f"Bearer {await guarded.token(role, scope, role=role)}"}
            answer = await guarded.client.get("/dashboard/settings.json", headers=headers)
            assert answer.status_code == status, role


async def test_settings_are_shown_without_their_secrets(workspace):
    settings = Settings(
        project="x",
        database_url="postgresql://u:s3cret@db/x",
        memory_url="http://me:s3cret@memory:8765",
        memory_api_key="s3cret",
        toolsets="core,memory",
    )
    async with guarded_server(workspace, is_authenticated=False, settings=tuple(shown_settings(settings))) as served:
        answer = await served.client.get("/dashboard/settings.json")
    told = {one["name"]: one["value"] for one in answer.json()["items"]}
    assert "s3cret" not in answer.text
    assert told["BMAD_DATABASE_URL"] == "set (not shown)"
    assert told["BMAD_MEMORY_URL"] == "http://…@memory:8765"
    assert told["BMAD_TOOLSETS"] == "core, memory"
    assert told["BMAD_AUTH_ISSUER"] == "unset"
    assert len(told) == len(Settings.model_fields)
