"""Role × scope × operation × bound, for every operation of the catalogue: what may run, over MCP and over REST."""

import itertools
import json
from dataclasses import replace

import pytest
from auth_server import WORDS, guarded_server, result_of
from harness import new_project

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.errors import Forbidden
from bmad_mcp.identity.rights import ROLES, SCOPES, Access, MissingScope
from bmad_mcp.operation import TOOLSETS, Operation
from bmad_mcp.server.auth import METADATA_PATH

LEVEL = {"read": 1, "write": 2, "admin": 3}
ROLE_LEVEL = {"viewer": 1, "member": 2, "admin": 3}
# Every set of scopes that a token may hold.
HELD = [frozenset(held) for size in range(4) for held in itertools.combinations(SCOPES, size)]


class Demanding(Operation):
    """An operation that says itself which scope it needs, as no verb makes one of admin yet."""

    scope = "admin"


ADMIN_OPERATION = Demanding(**{name: getattr(CATALOG[0], name) for name in CATALOG[0].__dataclass_fields__})
OPERATIONS = (*CATALOG, ADMIN_OPERATION)


def outcome(operation: Operation, role: str, held: frozenset[str], read_only: bool) -> str | tuple[str, ...]:
    """The rule, said once more and otherwise: `runs`, `never`, or the scopes that are missing."""
    need = LEVEL[operation.scope]
    if (read_only and need > 1) or need > ROLE_LEVEL[role]:
        return "never"
    highest = max((LEVEL[scope] for scope in held), default=0)
    return "runs" if highest >= need else tuple(scope for scope in SCOPES if highest < LEVEL[scope] <= need)


def test_no_operation_needs_the_scope_admin():
    # What an admin does is done at the command line, on the server's machine. A first one over HTTP has to be thought
    # about, in docs/why/0013 too; its cells are in this file already.
    assert {operation.scope for operation in CATALOG} == {"read", "write"}


def test_every_operation_needs_a_scope_that_is_one_of_the_three():
    assert {operation.scope for operation in OPERATIONS} == {"read", "write", "admin"}
    for operation in CATALOG:
        # A new verb has to be thought about before it gets a scope.
        assert operation.verb in ("GET", "POST", "PATCH", "PUT", "DELETE")
        assert (operation.scope == "read") == (operation.verb == "GET")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("read_only", [False, True])
def test_every_cell_of_the_matrix(role, read_only):
    cells = 0
    for operation, held in itertools.product(OPERATIONS, HELD):
        access = Access(Caller(), None, role, held, read_only)
        wanted = outcome(operation, role, held, read_only)
        assert access.may(operation) == (wanted == "runs")
        cells += 1
        if wanted == "runs":
            access.check(operation)
            continue
        with pytest.raises(Forbidden) as refused:
            access.check(operation)
        assert operation.name in refused.value.message
        if wanted == "never":
            assert not isinstance(refused.value, MissingScope), "another token would not help"
        else:
            assert refused.value.scopes == wanted
    assert cells == len(OPERATIONS) * 8


COMBINATIONS = [(role, scope) for role in ROLES for scope in SCOPES]


@pytest.fixture
async def guarded(workspace):
    async with guarded_server(workspace) as serving:
        yield serving


@pytest.mark.parametrize(("role", "scope"), COMBINATIONS)
async def test_a_principal_sees_and_calls_over_mcp_what_it_may_and_nothing_else(guarded, role, scope):
    await guarded.token("root", "admin", role="admin")
    token = await guarded.token("alice", scope, role=role)
    wanted = {one.name: outcome(one, role, frozenset({scope}), False) for one in CATALOG if one.toolset}
    listed = {tool["name"] for tool in result_of(await guarded.post(token, "tools/list"))["tools"]}
    assert listed == {name for name, told in wanted.items() if told == "runs"}
    for name, told in wanted.items():
        answer = await guarded.call(token, name, {"no_such_argument": 1})
        if isinstance(told, tuple):
            assert answer.status_code == 403, name
            assert answer.headers["www-authenticate"] == (
                f'Bearer error="insufficient_scope", error_description="{answer.json()["detail"]}",'
                f' scope="{" ".join(told)}", resource_metadata="{guarded.address}{METADATA_PATH}"'
            )
            continue
        result = result_of(answer)
        code = result["_meta"]["bmad/code"]
        # Past the check, the argument that no operation has is what is wrong.
        assert (result["isError"], code) == (True, "invalid" if told == "runs" else "forbidden"), name


@pytest.mark.parametrize(("role", "scope"), COMBINATIONS)
async def test_a_principal_calls_over_rest_what_it_may_and_nothing_else(guarded, role, scope):
    await guarded.token("root", "admin", role="admin")
    token = await guarded.token("alice", scope, role=role)
    for operation in CATALOG:
        reads = operation.verb == "GET"
        answer = await guarded.client.request(
            operation.verb,
            rest_path(operation),
            headers={"authorization": f"Bearer {token}"},
            params={"no_such_argument": 1} if reads else None,
            json=None if reads else {"no_such_argument": 1, "expected_version": 1},
        )
        told = outcome(operation, role, frozenset({scope}), False)
        if told == "runs":
            assert answer.status_code in (400, 404, 422, 428), (operation.name, answer.text)
        else:
            assert answer.status_code == 403, (operation.name, answer.text)
            assert ("www-authenticate" in answer.headers) == (told != "never")
            if told != "never":
                assert f'scope="{" ".join(told)}"' in answer.headers["www-authenticate"]


def rest_path(operation: Operation) -> str:
    path = "/api/v1/bmad" + operation.route.split(" ", 1)[1]
    for name in operation.arguments.model_fields:
        path = path.replace(f"{{{name}}}", "T-1")
    return path


async def test_in_another_project_no_operation_runs_and_none_tells_whether_it_is_there(guarded, pool):
    token = await guarded.token("alice", "admin", role="admin")
    headers = {"authorization": f"Bearer {token}"}
    told = set()
    for key in ((await new_project(pool)).key, "no-such-project"):
        for operation in CATALOG:
            over_mcp = await guarded.call(token, operation.name, x_bmad_project=key)
            over_rest = await guarded.client.request(
                operation.verb, rest_path(operation), headers=headers | {"x-bmad-project": key}
            )
            for answer in (over_mcp, over_rest):
                assert answer.status_code == 403, (operation.name, key)
                told.add(answer.text)
        for operation in CATALOG:
            if operation.resource is not None:
                answer = await guarded.post(token, "resources/read", {"uri": operation.resource}, x_bmad_project=key)
                told.add(answer.text)
    assert len(told) == 1, "a project that is not theirs and one that is not there must look the same"


@pytest.mark.parametrize("role", ROLES)
async def test_resources_prompts_and_completions_are_read_by_every_role(guarded, role):
    await guarded.token("root", "admin", role="admin")
    token = await guarded.token("alice", "read", role=role)
    fixed = [one.resource for one in CATALOG if one.resource and "{" not in one.resource]
    for uri in fixed:
        assert result_of(await guarded.post(token, "resources/read", {"uri": uri}))["contents"], uri
    assert result_of(await guarded.post(token, "prompts/get", {"name": "standup"}))["messages"]
    completed = {
        "ref": {"type": "ref/resource", "uri": "bmad://agents/{agent}"},
        "argument": {"name": "agent", "value": "d"},
    }
    assert "dev" in result_of(await guarded.post(token, "completion/complete", completed))["completion"]["values"]


def test_what_is_reached_without_a_tool_only_reads():
    assert all(operation.scope == "read" for operation in CATALOG if operation.resource is not None)


async def test_a_read_token_is_challenged_with_the_providers_words(workspace):
    from auth_server import Issuer

    async with Issuer().serving() as issuer, guarded_server(workspace, issuer) as guarded:
        await guarded.role(f"{issuer.url}#user-1", "member")
        token = issuer.token(guarded.resource, scope=WORDS["read"])
        for operation in CATALOG:
            if operation.toolset and operation.scope == "write":
                answer = await guarded.call(token, operation.name)
                assert answer.status_code == 403
                assert f'scope="{WORDS["write"]}"' in answer.headers["www-authenticate"]
        admin = issuer.token(guarded.resource, scope=WORDS["admin"])
        for operation in CATALOG:
            if operation.toolset and operation.scope == "read":
                assert (await guarded.call(admin, operation.name)).status_code == 200, "a needless challenge"


@pytest.mark.parametrize("is_authenticated", [True, False])
async def test_read_only_is_a_bound_that_no_token_role_or_header_relaxes(workspace, database, is_authenticated):
    headers = {"x_mcp_readonly": "false", "x_bmad_read_only": "0", "x_mcp_toolsets": "all"}
    async with guarded_server(workspace, read_only=True, is_authenticated=is_authenticated) as guarded:
        token = await guarded.token("alice", "admin", role="admin")
        listed = {tool["name"] for tool in result_of(await guarded.post(token, "tools/list", **headers))["tools"]}
        assert listed == {one.name for one in CATALOG if one.toolset and one.scope == "read"}
        for operation in CATALOG:
            if operation.toolset and operation.scope != "read":
                result = result_of(await guarded.call(token, operation.name, {"title": "x"}, **headers))
                assert result["isError"]
                assert "read-only" in json.dumps(result)
        answer = await guarded.client.post(
            "/api/v1/bmad/tasks/create", json={"title": "x"}, headers={"authorization": f"Bearer {token}"}
        )
        assert (answer.status_code, "read-only" in answer.text) == (403, True)
        if is_authenticated:
            assert (await guarded.client.get(METADATA_PATH)).json()["scopes_supported"] == ["read"]


@pytest.mark.parametrize("toolsets", [("core",), ("planning", "quality"), TOOLSETS])
async def test_toolsets_are_a_bound_that_no_token_role_or_header_relaxes(workspace, toolsets):
    headers = {"x_mcp_toolsets": "all", "x_bmad_toolsets": "all"}
    async with guarded_server(workspace, toolsets=toolsets) as guarded:
        token = await guarded.token("alice", "admin", role="admin")
        listed = {tool["name"] for tool in result_of(await guarded.post(token, "tools/list", **headers))["tools"]}
        assert listed == {one.name for one in CATALOG if one.toolset in toolsets}
        for operation in CATALOG:
            if operation.toolset not in toolsets:
                result = result_of(await guarded.call(token, operation.name, **headers))
                assert (result["isError"], result["_meta"]["bmad/code"]) == (True, "not_found")


async def test_toolsets_bound_tools_and_leave_rest_and_resources_to_rights(workspace):
    """A toolset is what a model is given to choose from; REST and resources are for programs, bound by scope and role."""
    async with guarded_server(workspace, toolsets=("memory",)) as guarded:
        await guarded.token("root", "admin", role="admin")
        token = await guarded.token("alice", "read", role="viewer")
        headers = {"authorization": f"Bearer {token}"}
        assert (await guarded.client.get("/api/v1/bmad/epics", headers=headers)).status_code == 200
        assert result_of(await guarded.post(token, "resources/read", {"uri": "bmad://project"}))["contents"]
        assert (
            await guarded.client.post("/api/v1/bmad/epics", headers=headers, json={"title": "x"})
        ).status_code == 403


def test_access_as_it_is_made_without_a_token_is_the_local_users():
    assert all(Access(Caller(), None).may(operation) for operation in OPERATIONS)
    assert not replace(Access(Caller(), None), read_only=True).may(BY_NAME["task_create"])
