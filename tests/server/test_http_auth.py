"""Authentication over HTTP: who is let in, who is not on any route, what a refusal tells, and when a right ends."""

import asyncio
import base64
import hmac
import json
import shlex
import time

import pytest
from auth_server import OPERATOR, Guarded, Issuer, guarded_server, result_of, rows_of
from harness import TestWorkspace, new_project
from joserfc.jwk import RSAKey
from mcp_types import ResourceTemplateReference
from starlette.applications import Starlette

from bmad_mcp.call import open_call
from bmad_mcp.errors import Unavailable
from bmad_mcp.identity import verifying
from bmad_mcp.identity.issuing import revoke_token
from bmad_mcp.identity.token_form import new_token
from bmad_mcp.server.auth import METADATA_PATH, PUBLIC_PATHS
from bmad_mcp.server.guard import Guard

OTHER_KEY = RSAKey.generate_key(2048, auto_kid=True)


@pytest.fixture
async def issuer():
    async with Issuer().serving() as serving:
        yield serving


@pytest.fixture
async def guarded(workspace, issuer):
    async with guarded_server(workspace, issuer) as serving:
        yield serving


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def handmade(guarded: Guarded, issuer: Issuer, alg: str) -> str:
    """A JWT that no library makes: unsigned, or signed with the public key as if it were a secret."""
    header = b64(json.dumps({"alg": alg, "typ": "at+jwt", "kid": issuer.keys[0].kid}).encode())
    body = f"{header}.{b64(json.dumps(issuer.claims(guarded.resource)).encode())}"
    pem = issuer.keys[0].as_pem(private=False)
    return f"{body}.{b64(hmac.digest(pem, body.encode(), 'sha256')) if alg == 'HS256' else ''}"


async def expired_static(guarded, issuer, database):
    text = await guarded.token("late")
    await rows_of(database.admin, "UPDATE mcp_tokens SET expires_at = now() WHERE name = 'late'")
    return text


async def revoked_static(guarded, issuer, database):
    text = await guarded.token("gone")
    async with open_call(guarded.workspace, OPERATOR, "token_revoke") as call:
        await revoke_token(call, text.split("_")[1])
    return text


def of(make):
    async def token(guarded, issuer, database):
        return make(guarded, issuer)

    return token


NOT_GOOD = {
    "none": of(lambda g, i: None),
    "garbage": of(lambda g, i: "garbage"),
    "a token of nobody": of(lambda g, i: new_token().text),
    "expired token": expired_static,
    "revoked token": revoked_static,
    "expired": of(lambda g, i: i.token(g.resource, exp=int(time.time()) - 60)),
    "not yet": of(lambda g, i: i.token(g.resource, nbf=int(time.time()) + 600)),
    "alg none": of(lambda g, i: handmade(g, i, "none")),
    "HS256 with the public key": of(lambda g, i: handmade(g, i, "HS256")),
    "unknown key": of(lambda g, i: i.token(g.resource, {"kid": OTHER_KEY.kid}, key=OTHER_KEY)),
    "another issuer": of(lambda g, i: i.token(g.resource, iss="https://evil.example")),
    "another audience": of(lambda g, i: i.token("https://other.example/mcp")),
    "an ID token": of(lambda g, i: i.token(g.resource, {"typ": "JWT"}, nonce="n")),
}


async def written(database, workspace) -> int:
    """What any operation would leave behind."""
    (row,) = await rows_of(database.admin, "SELECT count(*) FROM bmad_tasks WHERE project_id = $1", workspace.opened.id)
    return row[0]


@pytest.mark.parametrize("make", NOT_GOOD.values(), ids=NOT_GOOD)
async def test_without_a_good_token_every_request_is_refused_and_nothing_runs(guarded, issuer, database, make):
    token = await make(guarded, issuer, database)
    answers = [
        await guarded.call(token, "task_create", {"title": "Intruder"}),
        await guarded.post(token, "initialize", {"protocolVersion": "2025-06-18"}),
        await guarded.post(token, "tools/list"),
        await guarded.client.post(
            "/api/v1/bmad/tasks/create",
            json={"title": "Intruder"},
            headers={"authorization": f"Bearer {token}"} if token else {},
        ),
    ]
    for answer in answers:
        assert answer.status_code == 401
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith("Bearer ")
        assert f'resource_metadata="{guarded.address}{METADATA_PATH}"' in challenge
        assert 'scope="bmad:read"' in challenge
        assert ('error="invalid_token"' in challenge) == bool(token)
        assert "task" not in answer.text.lower()
    assert await written(database, guarded.workspace) == 0


@pytest.mark.parametrize("where", ["access_token={}", "x=1&access_token={}", "%61ccess_token={}"])
async def test_a_token_in_the_address_is_refused_however_good_it_is(guarded, issuer, database, where):
    good = await guarded.token("alice")
    for also in (None, good):
        answer = await guarded.post(
            also, "tools/call", {"name": "task_create", "arguments": {"title": "x"}}, path=f"/mcp?{where.format(good)}"
        )
        assert answer.status_code == 401
        assert good not in answer.text
    assert await written(database, guarded.workspace) == 0


@pytest.mark.parametrize("scheme", ["Basic {}", "bearer", "Token {}", "{}", "Bearer", "Bearer {} {}", "Bearer {},{}"])
async def test_a_header_that_is_no_bearer_token_is_refused(guarded, scheme):
    good = await guarded.token("alice")
    answer = await guarded.client.get("/connect", headers={"authorization": scheme.format(good, good)})
    assert answer.status_code == 401
    assert (await guarded.client.get("/connect", headers={"authorization": f"bEARER {good}"})).status_code == 200


async def test_two_authorization_headers_are_refused(guarded):
    good = await guarded.token("alice")
    headers = [("authorization", f"Bearer {good}"), ("authorization", f"Bearer {new_token().text}")]
    for order in (headers, headers[::-1]):
        assert (await guarded.client.get("/connect", headers=order)).status_code == 401


def routes_of(app: object) -> list[str]:
    """The paths of every route in an application, below whatever stands around it."""
    seen = [app]
    while not isinstance(seen[-1], Starlette):
        inner = [value for name in ("_app", "app") if (value := getattr(seen[-1], name, None)) is not None]
        assert inner, seen[-1]
        seen.append(inner[0])
    return [route.path for route in seen[-1].routes]


async def test_every_route_but_the_public_ones_asks_for_a_token(workspace, monkeypatch):
    made = []
    real = Guard.__init__
    monkeypatch.setattr(Guard, "__init__", lambda self, app, *more: made.append(app) or real(self, app, *more))
    async with guarded_server(workspace) as guarded:
        paths = [path.replace("{rest:path}", "tasks") for path in routes_of(made[0])]
        assert {"/mcp", "/", METADATA_PATH} <= set(paths)
        for path in [*paths, "/nothing", "/mcp/", "//mcp", "/health", "/health/live/", "/.well-known/x"]:
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
                # In full, as a client with a base address would ask for / instead of //mcp.
                answer = await guarded.client.request(method, f"{guarded.address}{path}")
                if path in PUBLIC_PATHS:
                    assert answer.status_code in (200, 405), (method, path)
                else:
                    assert answer.status_code == 401, (method, path)


async def test_what_is_public_tells_nothing_of_the_project():
    class Away:
        async def project(self):
            raise Unavailable("The database of secret-project is away.")

        async def mend(self):
            return False

    async with guarded_server(Away()) as guarded:
        ready = await guarded.client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "not ready"})
        assert (await guarded.client.get("/health/live")).status_code == 200
        answer = await guarded.post(new_token().text, "tools/list")
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert (await guarded.call(None, "project_status")).status_code == 401


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_with_the_database_away_a_model_learns_it_from_its_tool(guarded, monkeypatch, mode):
    async def away():
        raise Unavailable("The database does not answer.")

    known = await guarded.token("alice", "write")
    async with guarded.assistant(known, mode) as client:
        await client.call_tool("task_list", {})
        monkeypatch.setattr(guarded.workspace, "project", away)
        monkeypatch.setattr(verifying, "CACHE_SECONDS", 0)
        for tool in ("task_list", "task_create", "no_such_tool"):
            told = await client.call_tool(tool, {"title": "Unseen"})
            assert (told.is_error, told.content[0].text) == (True, "The database does not answer.")
            assert (told.meta["bmad/code"], told.meta["bmad/retry_after"]) == ("unavailable", 2)
    # Nobody is let in: whoever sends a token that cannot be looked up gets the same, and nothing ran.
    assert result_of(await guarded.call(new_token().text, "task_create", {"title": "Unseen"}))["isError"]
    monkeypatch.undo()
    assert result_of(await guarded.call(known, "task_list"))["structuredContent"]["items"] == []
    assert (await guarded.call(new_token().text, "task_list")).status_code == 401


async def test_the_metadata_says_the_resource_its_issuer_and_the_first_scopes(guarded, issuer):
    answer = await guarded.client.get(METADATA_PATH)
    assert answer.json() == {
        "resource": guarded.resource,
        "authorization_servers": [issuer.url],
        "scopes_supported": ["bmad:read", "bmad:write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "bmad-mcp",
    }


async def test_a_server_without_authentication_has_no_metadata(workspace):
    async with guarded_server(workspace, is_authenticated=False) as plain:
        assert (await plain.client.get(METADATA_PATH)).status_code == 404
        assert (await plain.client.get("/connect")).status_code == 200


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_with_a_static_token_works_under_its_name(guarded, database, mode):
    token = await guarded.token("alice", "write")
    async with guarded.assistant(token, mode) as client:
        made = await client.call_tool("task_create", {"title": "By Alice"})
        assert made.structured_content["task"]["title"] == "By Alice"
    (row,) = await rows_of(
        database.admin,
        "SELECT principal FROM bmad_agent_activity WHERE project_id = $1 AND operation = 'task_create'",
        guarded.workspace.opened.id,
    )
    assert row["principal"] == "alice"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_with_a_jwt_works_under_issuer_and_subject(guarded, issuer, database, mode):
    await guarded.role(f"{issuer.url}#user-1", "member")
    async with guarded.assistant(issuer.token(guarded.resource, email="x@example.com"), mode) as client:
        assert not (await client.call_tool("task_create", {"title": "By JWT"})).is_error
    (row,) = await rows_of(
        database.admin,
        "SELECT principal FROM bmad_agent_activity WHERE project_id = $1 AND operation = 'task_create'",
        guarded.workspace.opened.id,
    )
    assert row["principal"] == f"{issuer.url}#user-1"


async def test_claims_alone_let_nobody_in(guarded, issuer):
    answer = await guarded.call(issuer.token(guarded.resource, scope="bmad:admin", roles=["admin"]), "project_status")
    assert answer.status_code == 403
    assert f"{issuer.url}#user-1" in answer.json()["detail"]
    assert "www-authenticate" not in answer.headers, "no scope would mend it"


async def test_the_command_to_make_somebody_a_member_is_safe_to_paste(guarded, issuer):
    answer = await guarded.post(issuer.token(guarded.resource, sub="x';id;echo'`id`$(id)"), "tools/list")
    assert answer.status_code == 403
    words = shlex.split(answer.json()["detail"].split("runs `", 1)[1].split(", and your token", 1)[0].rstrip("`"))
    assert words == [
        "bmad-mcp",
        "member",
        "add",
        f"{issuer.url}#x';id;echo'`id`$(id)",
        "--role",
        "member",
        "--project",
        "KEY",
    ]


async def test_a_token_without_any_scope_of_ours_is_told_which_it_needs(guarded, issuer):
    await guarded.role(f"{issuer.url}#user-1", "member")
    answer = await guarded.post(issuer.token(guarded.resource, scope="openid offline_access"), "tools/list")
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert 'scope="bmad:read"' in answer.headers["www-authenticate"]


async def test_a_role_change_binds_the_next_call(guarded):
    token = await guarded.token("alice", "write", role="member")
    await guarded.token("root", "admin", role="admin")
    assert result_of(await guarded.call(token, "task_create", {"title": "x"}))["isError"] is False
    await guarded.role("alice", "viewer")
    refused = result_of(await guarded.call(token, "task_create", {"title": "x"}))
    assert refused["isError"]
    assert "needs the role member" in refused["content"][0]["text"]
    await guarded.role("alice", "member")
    assert result_of(await guarded.call(token, "task_create", {"title": "x"}))["isError"] is False


async def test_a_session_header_does_not_lead_into_anothers_session(guarded):
    one, two = await guarded.token("alice"), await guarded.token("bob")
    async with (
        guarded.assistant(one, x_bmad_session="s") as first,
        guarded.assistant(two, x_bmad_session="s") as second,
    ):
        await first.call_tool("agent_activate", {"agent": "dev"})
        await second.call_tool("agent_activate", {"agent": "sm"})
        for client, agent in ((first, "dev"), (second, "sm")):
            offered = await client.call_tool("handoff_offer", {"to": "qa", "note": "mine"})
            assert offered.structured_content["handoff"]["from"] == agent


class Several:
    """Two projects on one server, and one that does not exist."""

    def __init__(self, guarded: Guarded, other: TestWorkspace) -> None:
        self.guarded = guarded
        self.other = other
        self.keys = (guarded.workspace.opened.key, other.opened.key, "no-such-project")


@pytest.fixture
async def several(guarded, pool):
    return Several(guarded, TestWorkspace(await new_project(pool)))


async def test_a_principal_of_two_projects_works_in_the_one_it_names(several, database):
    guarded, (home, other, _) = several.guarded, several.keys
    token = await guarded.token("alice", also=[several.other.opened.id])
    for key, title in ((None, "at home"), (home, "at home too"), (other, "elsewhere")):
        headers = {"x_bmad_project": key} if key else {}
        async with guarded.assistant(token, **headers) as client:
            await client.call_tool("task_create", {"title": title})
            assert title in json.dumps((await client.call_tool("task_list", {})).structured_content)
            project = json.loads((await client.read_resource("bmad://project/board")).contents[0].text)["project"]
            assert project == (key or home)
            prompt = (await client.get_prompt("standup")).messages[0].content.text
            assert title in prompt
            others = {"at home", "at home too", "elsewhere"} - ({"elsewhere"} if key == other else {"at home", title})
            assert not [one for one in others if f'"{one}"' in prompt]
            completed = await client.complete(
                ResourceTemplateReference(uri="bmad://tasks/{task}"), {"name": "task", "value": "T-"}
            )
            assert completed.completion.values == (["T-1", "T-2"] if key == home else ["T-1"])
    rows = await rows_of(
        database.admin,
        "SELECT title FROM bmad_tasks WHERE project_id = $1 ORDER BY number",
        several.other.opened.id,
    )
    assert [row["title"] for row in rows] == ["elsewhere"]


async def test_nobody_gets_into_a_project_where_they_do_not_belong(several, issuer, database):
    guarded, (home, other, absent) = several.guarded, several.keys
    outside = Guarded(guarded.address, several.other, guarded.client)
    await outside.role("alice", "admin")
    await outside.role(f"{issuer.url}#user-1", "member")
    tokens = {
        # A member at home only; a member elsewhere whose token is for home only; strangers at home.
        "home only": (await guarded.token("bob"), (other, absent)),
        "bound to home": (await guarded.token("alice", role="member"), (other, absent)),
        "elsewhere only": (await outside.token("carol"), (home, absent, None)),
        "JWT elsewhere only": (issuer.token(guarded.resource), (home, absent, None)),
    }
    for name, (token, keys) in tokens.items():
        told = set()
        for key in keys:
            headers = {"x_bmad_project": key} if key else {}
            for answer in (
                await guarded.call(token, "task_create", {"title": "Intruder"}, **headers),
                await guarded.client.get(
                    "/connect", headers={"authorization": f"Bearer {token}"} | ({"x-bmad-project": key} if key else {})
                ),
            ):
                assert answer.status_code == 403, (name, key)
                told.add(answer.json()["detail"])
        assert len(told) == 1, "a project that is not theirs and one that is not there must look the same"
    assert await written(database, guarded.workspace) == await written(database, several.other) == 0


@pytest.mark.parametrize("key", ["", "A B", "x" * 5000, "' OR 1=1 --", "a,b"])
async def test_a_project_header_that_names_none_is_refused(guarded, key):
    token = await guarded.token("alice")
    assert (await guarded.call(token, "project_status", x_bmad_project=key)).status_code == 403


async def test_two_project_headers_are_refused(several):
    token = await several.guarded.token("alice", also=[several.other.opened.id])
    headers = [("x-bmad-project", key) for key in several.keys[:2]]
    answer = await several.guarded.client.get("/connect", headers=[("authorization", f"Bearer {token}"), *headers])
    assert answer.status_code == 403


async def test_without_authentication_a_project_header_never_writes_elsewhere(workspace, pool, database):
    other = TestWorkspace(await new_project(pool))
    async with guarded_server(workspace, is_authenticated=False) as plain:
        refused = await plain.call(None, "task_create", {"title": "x"}, x_bmad_project=other.opened.key)
        assert refused.status_code == 403
        same = await plain.call(None, "task_create", {"title": "x"}, x_bmad_project=workspace.opened.key)
        assert result_of(same)["isError"] is False
    assert await written(database, other) == 0


async def test_a_listener_whose_token_is_revoked_is_cut_off(workspace, monkeypatch):
    from bmad_mcp.identity import verifying
    from bmad_mcp.server import auth

    assert auth.RECHECK_SECONDS + verifying.CACHE_SECONDS <= 5
    monkeypatch.setattr(verifying, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr(auth.Authentication.__init__, "__defaults__", (None, 0.05))
    async with guarded_server(workspace) as guarded:
        keep, lose = await guarded.token("alice"), await guarded.token("bob")
        async with guarded.listener(keep) as stays, guarded.listener(lose) as goes:
            async with open_call(workspace, OPERATOR, "token_revoke") as call:
                await revoke_token(call, lose.split("_")[1])
            done, _ = await asyncio.wait({goes}, timeout=10)
            assert done, "the stream goes on"
            assert not stays.done()


async def test_a_database_that_comes_back_lets_people_in_again(guarded, database):
    token = await guarded.token("alice")
    assert (await guarded.call(token, "project_status")).status_code == 200
    await rows_of(
        database.admin,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'bmad-mcp'",
    )

    async def status() -> int:
        return (await guarded.call(token, "project_status")).status_code

    codes = [await status() for _ in range(12)]
    assert set(codes) <= {200, 503}
    assert codes[-1] == 200


async def test_no_answer_and_no_log_holds_a_token(guarded, issuer, caplog):
    good, stale, nobodys = await guarded.token("alice"), issuer.token(guarded.resource, exp=1), new_token().text
    caplog.set_level("DEBUG", "bmad_mcp")
    told = []
    for token in (good, stale, nobodys, good[:-1] + "A"):
        for answer in (
            await guarded.call(token, "task_get", {"task": "T-999"}),
            await guarded.call(token, "no_such_tool"),
            await guarded.client.get(f"/?access_token={token}"),
        ):
            told += [answer.text, str(answer.headers)]
    told += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    assert any("refused" in record.getMessage() for record in caplog.records)
    for secret in (good.split("_", 2)[2][:40], nobodys.split("_", 2)[2][:40], stale):
        assert secret not in "\n".join(told)


async def test_a_page_of_an_allowed_origin_may_ask_without_a_token_and_read_with_one(workspace):
    page = {"origin": "https://board.example"}
    ask = page | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    path = "/api/v1/bmad/status"
    async with guarded_server(workspace, rest_origins=("https://board.example",)) as guarded:
        token = await guarded.token("alice", "read")
        asked = await guarded.client.options(path, headers=ask)
        assert asked.status_code == 200
        assert "authorization" in asked.headers["access-control-allow-headers"].lower()
        without = await guarded.client.get(path, headers=page)
        assert (without.status_code, without.headers["access-control-allow-origin"]) == (401, page["origin"])
        read = await guarded.client.get(path, headers=page | {"authorization": f"Bearer {token}"})
        assert (read.status_code, read.headers["access-control-allow-origin"]) == (200, page["origin"])
        assert "access-control-allow-credentials" not in read.headers
        for elsewhere in ("/mcp", "/", METADATA_PATH):
            assert (await guarded.client.options(elsewhere, headers=ask)).status_code == 403
        other = ask | {"origin": "https://evil.example"}
        assert (await guarded.client.options(path, headers=other)).status_code == 403
