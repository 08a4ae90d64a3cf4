"""With a real identity provider: its tokens let in, its other tokens do not, and its keys may change under way."""

import asyncio
import contextlib
import json
from pathlib import Path

import httpx
import httpx2
import pytest
from auth_server import WORDS, guarded_server, result_of, rows_of
from bmad_installs import npm_installed
from chromium import Tab, browsing
from mcp.client import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client

VERSION = "9.13.3"
SCRIPT = Path(__file__).parent / "identity_provider.mjs"


class Provider:
    """The provider's process."""

    def __init__(self, process: asyncio.subprocess.Process, issuer: str) -> None:
        self.process = process
        self.url = issuer

    async def rotate(self) -> None:
        """A new key signs from now on; the old one stays published."""
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()
        # It also tells its own warnings there.
        while (line := await asyncio.wait_for(self.process.stdout.readline(), 30)) != b"rotated\n":
            assert line, "the provider ended"

    async def token(self, client: str, resource: str, scope: str = "bmad:read bmad:write") -> str:
        """An access token for the resource by the client's own credentials."""
        asked = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{self.url}/token", data=asked, auth=(client, f"secret-of-{client}"))
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]


@pytest.fixture
async def provider():
    module = npm_installed("oidc-provider", VERSION) / "lib/index.js"
    process = await asyncio.create_subprocess_exec(
        "node",
        str(SCRIPT),
        str(module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    issuer = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
    assert issuer.startswith("http://127.0.0.1:"), (await process.stderr.read()).decode()
    yield Provider(process, issuer)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()


@pytest.fixture
async def guarded(workspace, provider):
    async with guarded_server(workspace, provider) as serving:
        await serving.role(f"{provider.url}#writer", "member")
        await serving.role(f"{provider.url}#reader", "member")
        yield serving


class Memory:
    """Where a client keeps its tokens."""

    def __init__(self) -> None:
        self.tokens = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens) -> None:
        self.tokens = tokens

    async def get_client_info(self):
        return None

    async def set_client_info(self, client_info) -> None: ...


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_finds_the_provider_by_the_challenge_gets_a_token_and_works(guarded, provider, database, mode):
    memory = Memory()
    auth = ClientCredentialsOAuthProvider(
        guarded.resource, memory, "writer", "secret-of-writer", scope="bmad:read bmad:write", issuer=provider.url
    )
    async with Client(
        streamable_http_client(guarded.resource, http_client=httpx2.AsyncClient(auth=auth)), mode=mode
    ) as client:
        made = await client.call_tool("task_create", {"title": "Through the provider"})
        assert made.structured_content["task"]["title"] == "Through the provider"
    assert memory.tokens is not None
    (row,) = await rows_of(
        database.admin,
        "SELECT principal FROM bmad_agent_activity WHERE project_id = $1 AND operation = 'task_create'",
        guarded.workspace.opened.id,
    )
    assert row["principal"] == f"{provider.url}#writer"


async def test_the_scopes_of_the_provider_and_the_role_here_both_bound_it(guarded, provider):
    reader = await provider.token("reader", guarded.resource, "bmad:read")
    assert result_of(await guarded.call(reader, "project_status"))["isError"] is False
    refused = await guarded.call(reader, "task_create", {"title": "x"})
    assert refused.status_code == 403
    assert f'scope="{WORDS["write"]}"' in refused.headers["www-authenticate"]
    stranger = await provider.token("stranger", guarded.resource)
    assert (await guarded.call(stranger, "project_status")).status_code == 403


async def test_a_token_for_another_resource_is_refused(guarded, provider):
    for resource in ("https://other.example/mcp", guarded.address, f"{guarded.resource}/"):
        token = await provider.token("writer", resource)
        assert (await guarded.call(token, "project_status")).status_code == 401, resource


async def test_a_token_of_another_provider_of_the_same_kind_is_refused(guarded, provider, workspace):
    token = await provider.token("writer", guarded.resource)
    header, payload, signature = token.split(".")
    for other in (f"{header}.{payload}.{signature[::-1]}", f"{header}.{payload[::-1]}.{signature}", f"{token}x"):
        assert (await guarded.call(other, "project_status")).status_code == 401


async def test_rotated_keys_refuse_no_valid_token(guarded, provider):
    old = await provider.token("writer", guarded.resource)
    assert (await guarded.call(old, "project_status")).status_code == 200
    await provider.rotate()
    new = await provider.token("writer", guarded.resource)
    assert json.dumps(old.split(".")[0]) != json.dumps(new.split(".")[0])
    for token in (new, old, new):
        assert (await guarded.call(token, "project_status")).status_code == 200


async def test_a_provider_that_went_away_refuses_nobody_whose_key_is_known(guarded, provider):
    token = await provider.token("writer", guarded.resource)
    assert (await guarded.call(token, "project_status")).status_code == 200
    provider.process.kill()
    await provider.process.wait()
    assert (await guarded.call(token, "project_status")).status_code == 200


async def test_a_person_signs_in_from_the_dashboard_and_out_again(workspace, provider):
    """Authorization code with PKCE, through the provider's own pages."""
    async with guarded_server(workspace, provider, client_id="dashboard") as guarded, browsing() as browser:
        await guarded.role(f"{provider.url}#alice", "member")
        page = Tab(await browser.new_page()).page
        await page.goto(f"{guarded.address}/#agents")
        await page.get_by_role("button", name="Sign in at the identity provider").click()
        await page.locator('input[name="login"]').fill("alice")
        await page.locator('input[name="password"]').fill("any")
        await page.locator('button[type="submit"]').click()
        await page.get_by_role("button", name="Continue").click()
        await page.get_by_text("Who works on what").wait_for()
        # Neither the code nor the token stays where others could read it.
        assert page.url == f"{guarded.address}/#agents"
        assert [one for one in await page.context.cookies() if one["domain"] != "127.0.0.1"] == []
        token = json.loads(await page.evaluate("sessionStorage.getItem('bmad.access')"))["token"]
        assert result_of(await guarded.call(token, "task_create", {"title": "By Alice"}))["isError"] is False
        assert await page.evaluate("sessionStorage.length") == 1

        await page.goto(f"{guarded.address}/?code=stolen&state=made-up")
        await page.get_by_text("Who works on what").or_(page.locator(".columns")).first.wait_for()
        assert "code" not in page.url
        await page.get_by_role("button", name="Log out").click()
        await page.goto(f"{guarded.address}/?error=access_denied&state=made-up")
        await page.get_by_text("That was not asked for from this tab.").wait_for()


async def test_a_code_is_exchanged_only_with_what_it_was_asked_for_with(workspace, provider):
    async with guarded_server(workspace, provider, client_id="dashboard") as guarded:
        address = "/dashboard/sign-in.json"
        offer = (await guarded.client.get(address)).json()
        assert offer["endpoint"].startswith(provider.url)
        assert (offer["redirect_uri"], offer["resource"]) == (f"{guarded.address}/", guarded.resource)
        good = "v" * 43
        for body, status in (
            ({"code": "made-up", "verifier": good}, 403),
            ({"code": "", "verifier": good}, 422),
            ({"code": "x" * 5000, "verifier": good}, 422),
            ({"code": "made-up", "verifier": "short"}, 422),
            ({"code": ["made-up"], "verifier": good}, 422),
            ([], 422),
        ):
            answer = await guarded.client.post(address, json=body)
            assert answer.status_code == status, body
        assert (await guarded.client.post(address, content=b"not JSON")).status_code == 400
        foreign = {"origin": "https://evil.example"}
        assert (await guarded.client.post(address, json={}, headers=foreign)).status_code == 403
        provider.process.kill()
        await provider.process.wait()
        answer = await guarded.client.post(address, json={"code": "made-up", "verifier": good})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
