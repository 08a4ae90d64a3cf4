"""Every captured request and response of real servers, replayed: what the adapters send, and how they read the answer."""

import json
from pathlib import Path

import pytest

from bench.fake_server import Asked, FakeServer, Reply
from bmad_mcp.memory.provider import NewMemory, Question
from bmad_mcp.memory.services import answers, mem0, openmemory
from bmad_mcp.memory.services.answers import Outgoing
from bmad_mcp.memory.services.breaker import Guards
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.memory.services.http import Garbage, JsonClient, Refused

PAIRS = Path(__file__).parents[2] / "data" / "memory"
FILES = {
    str(path.relative_to(PAIRS)).removesuffix(".json"): path for folder in PAIRS.iterdir() for path in folder.iterdir()
}
ANY_KEY = Outgoing(NewMemory("x", "AGENT_CONTEXT", "agent", "local"), "k-1")


class Replay(FakeServer):
    """Answers everything with the response of one pair; with `owner`, its memories are that project's."""

    def __init__(self, pair, owner=None):
        super().__init__()
        response = pair["response"]
        body = response["body"]
        if owner and isinstance(body, dict):
            for one in [body, *body.get("items", []), *body.get("results", [])]:
                for name in {"metadata", "metadata_"} & one.keys():
                    one[name] = {**one[name], "bmad_project": owner}
        kind = response["headers"].get("content-type", "")
        if kind != "application/json":
            body = (body or "").encode()
        headers = {name: value for name, value in response["headers"].items() if name != "content-type"}
        self.answer = Reply(body, response["status"], kind, headers)

    async def reply(self, asked: Asked) -> Reply:
        return self.answer


def pair_of(name):
    return json.loads(FILES[name].read_text())


async def replayed(name, call, *, owner="tidepool"):
    """What an adapter's call comes to when the service answers as captured; and the last request it sent."""
    adapter = openmemory.OpenMemory if name.startswith("openmemory") else mem0.Mem0
    async with Replay(pair_of(name), owner) as server:
        client = JsonClient(server.url)
        service = adapter(client, user="drj", project="tidepool", guards=Guards())
        try:
            return await call(service), server.asked[0]
        except (Refused, Garbage) as error:
            return error, server.asked[0]
        finally:
            await client.aclose()


def assert_same_request(asked, name, *, more=frozenset()):
    """The adapter's request has the path and the fields of the captured one, which the real server understood."""
    request = pair_of(name)["request"]
    assert asked.what == f"{request['method']} {request['path']}"
    for sent, captured in ((asked.params, request["params"]), (asked.body or {}, request["json"] or {})):
        assert set(captured or {}) - more <= set(sent), "a field that the server was seen to take is not sent"


# --- Reading pages: what is in them, whoever wrote it.

PAGES = [
    "openmemory/15_list",
    "openmemory/16_list_search",
    "openmemory/18_list_by_category",
    "openmemory/21_filter_default",
    "openmemory/22_filter_search",
    "openmemory/23_filter_search_multiword",
    "openmemory/24_filter_search_pct",
    "openmemory/25_filter_sorted",
    "openmemory/34_related",
    "openmemory/35_related_size_ignored",
    "openmemory/39_filter_by_category",
    "openmemory/41_list_after_pause",
    "openmemory/42_filter_after_pause",
    "openmemory/71_fail_cat_chat_500_filter",
    "openmemory/75_fail_emb_500_filter",
    "openmemory/79_fail_all_401_filter",
    "openmemory/83_fail_vector_down_filter",
    "mem0-server/06_list",
    "mem0-server/07_list_all_admin",
    "mem0-server/08_search",
    "mem0-server/09_search_metadata_filter",
    "mem0-server/10_search_top_level_user",
]


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_read_whole_and_only_what_is_of_the_project_comes_out(name):
    body = pair_of(name)["response"]["body"]
    captured = body["items"] if "items" in body else body["results"]
    everything, asked = await replayed(name, lambda service: service.search(Question(limit=100)))
    alive = [one for one in captured if one.get("state", "active") == "active"]
    assert {one.ref for one in everything.items} == {one["id"] for one in alive}
    by_ref = {one["id"]: one for one in captured}
    for one in everything.items:
        assert one.text == by_ref[one.ref].get("content", by_ref[one.ref].get("memory"))
        assert one.created_at.year == 2026
        assert one.created_at.tzinfo is not None
        told = (by_ref[one.ref].get("metadata_") or by_ref[one.ref].get("metadata") or {}).get("category")
        assert told in (None, one.category)
    assert asked.path in ("/api/v1/memories/filter", "/search")
    nothing, _ = await replayed(name, lambda service: service.search(Question(limit=100)), owner=None)
    assert nothing.items == []


async def test_the_states_of_a_page_are_kept_apart():
    name = "openmemory/42_filter_after_pause"
    paused = {one["id"] for one in pair_of(name)["response"]["body"]["items"] if one["state"] == "paused"}
    assert paused
    listed, _ = await replayed(name, lambda service: service.listing())
    assert paused <= {one.ref for one in listed.items}
    found, _ = await replayed(name, lambda service: service.search(Question(limit=100)))
    assert not paused & {one.ref for one in found.items}


@pytest.mark.parametrize("name", ["openmemory/22_filter_search", "mem0-server/09_search_metadata_filter"])
async def test_a_search_sends_what_the_server_was_seen_to_take(name):
    _, asked = await replayed(name, lambda service: service.recall(Question("T-13")))
    assert_same_request(asked, name)
    assert asked.body.get("size", 0) <= 100


async def test_each_item_of_a_search_keeps_the_services_score():
    found, _ = await replayed("mem0-server/08_search", lambda service: service.recall(Question("zzz", limit=100)))
    captured = [one for one in pair_of("mem0-server/08_search")["response"]["body"]["results"] if one["score"] > 0]
    assert [one.ref for one in found] == [one["id"] for one in captured]
    # The nudges are bounded: ±10 % for age and ±5 % for confidence.
    for one, told in zip(found, captured, strict=True):
        assert 0.85 * told["score"] - 0.001 <= one.score <= 1.16 * told["score"] + 0.001


# --- Creating.

CREATED = {
    "openmemory/05_create_infer_true": "stored",
    "openmemory/06_create_infer_false": "stored",
    "openmemory/07_create_infer_false_b": "stored",
    "openmemory/08_create_dup_infer_true": "empty",
    "openmemory/09_create_dup_infer_false": "stored",
    "openmemory/10_create_nofacts": "empty",
    "openmemory/11_create_empty_text": "empty",
    "openmemory/12_create_missing_text_422": 422,
    "openmemory/13_create_unknown_user_404": 404,
    "openmemory/14_create_no_trailing_slash": 307,
    "openmemory/53_create_app_paused_403": 403,
    "openmemory/68_fail_cat_chat_500_infer_false": "stored",
    "openmemory/69_fail_cat_chat_500_infer_true": 200,
    "openmemory/72_fail_emb_500_infer_false": 200,
    "openmemory/73_fail_emb_500_infer_true": 200,
    "openmemory/76_fail_all_401_infer_false": 200,
    "openmemory/77_fail_all_401_infer_true": 200,
    "openmemory/81_fail_vector_down_create": 200,
    "mem0-server/01_add_infer_false": "stored",
    "mem0-server/02_add_infer_true": "stored",
    "mem0-server/03_add_dup_infer_true": "duplicate",
    "mem0-server/04_add_no_ids_400": 400,
    "mem0-server/05_add_422": 422,
    "mem0-server/22_fail_embed_500_add": 502,
    "mem0-server/24_fail_llm_500_add": 502,
}


@pytest.mark.parametrize("name", CREATED)
async def test_a_creation_ends_as_the_server_meant_it(name):
    new = NewMemory("Postgres migration took 14 minutes", "TASK_COMPLETION", "agent", "local", "dev", 0.9)
    outcome, asked = await replayed(name, lambda service: service.deliver(Outgoing(new, "k-1"), tried_before=False))
    body = pair_of(name)["response"]["body"]
    if isinstance(CREATED[name], int):
        assert (type(outcome), outcome.status) == (Refused, CREATED[name])
        assert outcome.counts == (not 400 <= CREATED[name] < 500)
        assert "boom" not in str(outcome)
    else:
        assert outcome.status == CREATED[name]
        known = (body or {}).get("id") or next(iter((body or {}).get("results", [])), {}).get("id")
        assert outcome.ref == known
    assert asked.body["infer"] is False
    if CREATED[name] != 307:
        assert_same_request(asked, name, more={"run_id"})


@pytest.mark.parametrize("name", ["openmemory/06_create_infer_false", "mem0-server/01_add_infer_false"])
async def test_a_created_memory_says_where_it_comes_from(name):
    new = NewMemory("Use tabs", "USER_PREFERENCES", "human", "alice@example.com", "dev", 0.9)
    _, asked = await replayed(name, lambda service: service.deliver(Outgoing(new, "k-1"), tried_before=False))
    assert asked.body["metadata"] == {
        "bmad_project": "tidepool",
        "bmad_key": "k-1",
        "category": "USER_PREFERENCES",
        "agent": "dev",
        "author_kind": "human",
        "confidence": 0.9,
    }
    text = asked.body.get("text") or asked.body["messages"][0]["content"]
    assert text == f"Use tabs {answers.tag_of('tidepool', 'k-1')}"
    assert "alice" not in json.dumps(asked.body), "who the principal is stays here"


# --- One memory, its kin, and deletion.

ONE = {
    "openmemory/31_get_one": "1a105c40-5f68-4de9-898e-d20750832610",
    "openmemory/38_get_after_update": "1a105c40-5f68-4de9-898e-d20750832610",
    "openmemory/32_get_404": None,
    "openmemory/33_get_bad_uuid": None,
    "mem0-server/12_get": "16185a06-5331-4a5c-970e-4a5fa18592d2",
    "mem0-server/13_get_unknown": None,
    "mem0-server/14_get_bad_id": 502,
}


@pytest.mark.parametrize("name", ONE)
async def test_one_memory_is_fetched_by_its_id(name):
    ref = "00000000-0000-0000-0000-000000000000"
    outcome, asked = await replayed(name, lambda service: service._one(ref, openmemory.Allowance(1)))
    if isinstance(ONE[name], int):
        assert outcome.status == ONE[name]
    else:
        assert (outcome and outcome.ref) == ONE[name]
    request = pair_of(name)["request"]
    assert asked.method == "GET"
    assert asked.path.rpartition("/")[0] == request["path"].rpartition("/")[0]


async def test_a_deleted_memory_is_none():
    name = "openmemory/64_get_deleted"
    assert (await replayed(name, lambda service: service._one("x", openmemory.Allowance(1))))[0].state == "deleted"
    assert (await replayed(name, lambda service: service.related("x", 5)))[0] is None
    assert (await replayed(name, lambda service: service.forget(["x"])))[0] == 0


DELETED = {
    "openmemory/63_delete": "Successfully deleted 1 memories",
    "openmemory/65_delete_again": "Successfully deleted 1 memories",
    "openmemory/66_delete_unknown": 404,
    "openmemory/82_fail_vector_down_delete": 503,
    "mem0-server/17_delete": "Memory deleted successfully",
    "mem0-server/18_delete_again": 404,
}


@pytest.mark.parametrize("name", DELETED)
async def test_a_deletion_ends_as_the_server_meant_it(name):
    request, is_open = pair_of(name)["request"], name.startswith("openmemory")
    ref = request["json"]["memory_ids"][0] if is_open else request["path"].rpartition("/")[2]
    row = pair_of("openmemory/31_get_one" if is_open else "mem0-server/12_get")["response"]["body"]

    class GetThenReplay(Replay):
        async def reply(self, asked):
            own = {"bmad_project": "tidepool"}
            return (
                Reply({**row, "id": ref, "metadata": own, "metadata_": own}) if asked.method == "GET" else self.answer
            )

    async with GetThenReplay(pair_of(name)) as server:
        adapter = openmemory.OpenMemory if is_open else mem0.Mem0
        service = adapter(JsonClient(server.url), user="drj", project="tidepool", guards=Guards())
        if DELETED[name] == 404:
            # It went between the two requests.
            assert await service.forget([ref]) == 0
        elif DELETED[name] == 503:
            with pytest.raises(Refused) as refused:
                await service.forget([ref])
            assert refused.value.status == 503
        else:
            assert await service.forget([ref]) == 1
        await service.aclose()
        assert_same_request(server.asked[1], name)


# --- Health, choosing, and search by meaning.

HEALTH = {
    "openmemory/03_stats": (True, "keeps 0 memories"),
    "openmemory/47_stats_after": (True, "keeps 5 memories"),
    "openmemory/61_stats_user_made_by_mcp": (True, "keeps 1 memory"),
    "openmemory/04_stats_unknown_user": (True, "does not know the user"),
    "openmemory/19_list_missing_user_422": (False, "answered 422"),
    "mem0-server/06_list": (True, "mem0 server answers"),
    "mem0-server/20_trailing_slash_404": (False, "answered 404"),
    "mem0-server/19_entities": (False, "not a mem0 server"),
    "mem0-server/21_configure_get": (False, "not a mem0 server"),
}


@pytest.mark.parametrize("name", HEALTH)
async def test_health_is_told_by_a_cheap_read(name):
    health, asked = await replayed(name, lambda service: service.health())
    assert (health.ok, HEALTH[name][1] in health.detail) == (HEALTH[name][0], True), health.detail
    assert asked.method == "GET"


CHOSEN = {
    "openmemory/03_stats": "openmemory",
    "openmemory/46_apps": "builtin",
    "openmemory/04_stats_unknown_user": "builtin",
    "mem0-server/06_list": "mem0",
    "mem0-server/16_history": "builtin",
    "mem0-server/20_trailing_slash_404": "builtin",
}


@pytest.mark.parametrize("name", CHOSEN)
async def test_auto_goes_by_what_the_answer_looks_like(name):
    async with Replay(pair_of(name)) as server:
        services = MemoryServices(server.url, user="drj")
        assert (await services.choice()).provider == CHOSEN[name]
        await services.aclose()


async def test_auto_knows_an_openmemory_that_has_not_met_the_user():
    class Parts(FakeServer):
        async def reply(self, asked):
            names = {"/api/v1/stats/": "openmemory/04_stats_unknown_user", "/api/v1/apps/": "openmemory/46_apps"}
            return Replay(pair_of(names.get(asked.path, "mem0-server/20_trailing_slash_404"))).answer

    async with Parts() as server:
        services = MemoryServices(server.url, user="nobody")
        assert (await services.choice()).provider == "openmemory"
        await services.aclose()


MEANING = [
    "openmemory/57_mcp_search",
    "openmemory/70_fail_cat_chat_500_mcp_search",
    "openmemory/74_fail_emb_500_mcp_search",
    "openmemory/78_fail_all_401_mcp_search",
    "openmemory/84_fail_vector_down_mcp_search",
    "openmemory/58_mcp_list",
    "openmemory/55_mcp_initialize",
]


@pytest.mark.parametrize("name", MEANING)
async def test_a_search_by_meaning_that_answers_with_an_error_is_left_off(name):
    works, asked = await replayed(name, lambda service: service.meaning.probe())
    assert works is False
    request = pair_of(name)["request"]
    assert asked.what == f"POST {request['path']}"
    if request["json"]["params"].get("name") == "search_memory":
        assert asked.body["params"].keys() == request["json"]["params"].keys()
        assert asked.body["params"]["arguments"].keys() == request["json"]["params"]["arguments"].keys()


@pytest.mark.parametrize("name", ["openmemory/59_mcp_add", "openmemory/60_mcp_add_new_user"])
async def test_a_user_is_made_by_mcp_and_the_first_memory_taken_away(name):
    deletion = pair_of("openmemory/63_delete")["response"]["body"]

    class AddThenDelete(Replay):
        async def reply(self, asked):
            return Reply(deletion) if asked.method == "DELETE" else self.answer

    request = pair_of(name)["request"]
    async with AddThenDelete(pair_of(name)) as server:
        user = request["path"].rpartition("/")[2]
        service = openmemory.OpenMemory(JsonClient(server.url), user=user, project="tidepool", guards=Guards())
        await service.introduce()
        await service.aclose()
    added, deleted = server.asked
    assert added.what == f"POST {request['path']}"
    assert added.body["params"]["arguments"].keys() == request["json"]["params"]["arguments"].keys()
    text = json.loads(pair_of(name)["response"]["body"]["result"]["content"][0]["text"])
    assert deleted.body == {"user_id": user, "memory_ids": [text["results"][0]["id"]]}


# --- Failures of searches.

FAILED = {
    "openmemory/17_list_sort_bad_column": 500,
    "openmemory/20_list_size_over_100": 422,
    "openmemory/26_filter_bad_sort": 400,
    "openmemory/27_filter_bad_direction": 400,
    "openmemory/28_filter_size_500": 500,
    "openmemory/29_filter_unknown_user": 404,
    "mem0-server/11_search_no_filter_400": 400,
    "mem0-server/23_fail_embed_500_search": 502,
    "mem0-server/25_fail_401_search": 502,
    "mem0-server/26_fail_429_search": 502,
}


@pytest.mark.parametrize("name", FAILED)
async def test_a_search_that_fails_says_so(name):
    for call in (lambda service: service.recall(Question("token")), lambda service: service.find_by_key(ANY_KEY)):
        outcome, _ = await replayed(name, call)
        assert (type(outcome), outcome.status) == (Refused, FAILED[name])
        # A server's own words stay there: these name providers and keys.
        assert str(outcome) == f"The memory service answered {FAILED[name]}"


# --- What is not ours to call, and what another end answers with.

NOT_CALLED = {
    "openmemory/01_config_get_default",
    "openmemory/02_config_put_vector_store",
    "openmemory/30_categories",
    "openmemory/36_access_log",
    "openmemory/37_update",
    "openmemory/40_pause",
    "openmemory/43_resume",
    "openmemory/44_pause_bad",
    "openmemory/45_archive_str_user_422",
    "openmemory/48_archive",
    "openmemory/49_app_get",
    "openmemory/50_app_memories",
    "openmemory/51_app_accessed",
    "openmemory/52_app_pause",
    "openmemory/54_app_resume",
    "openmemory/62_access_log_after_search",
    "openmemory/67_export",
    "openmemory/80_config_put_dead_vector",
    "mem0-server/15_update",
    "mem0-server/27_delete_all",
}


@pytest.mark.parametrize("name", sorted(NOT_CALLED))
async def test_an_answer_to_something_else_is_not_taken_for_memories(name):
    for call in (lambda service: service.recall(Question("token")), lambda service: service.find_by_key(ANY_KEY)):
        outcome, asked = await replayed(name, call)
        assert type(outcome) in (Garbage, Refused)
        request = pair_of(name)["request"]
        assert asked.what != f"{request['method']} {request['path']}"
    outcome, _ = await replayed(name, lambda service: service.deliver(ANY_KEY, tried_before=False))
    # An update answers like a creation: the row.
    assert type(outcome) in (Garbage, Refused) or name == "openmemory/37_update"


async def test_what_changes_all_users_is_never_called(openmemory, fake_openmemory, mem0, fake_mem0):
    never = [pair_of(name)["request"] for name in NOT_CALLED]
    new = NewMemory("Postgres migration took 14 minutes", "TASK_COMPLETION", "agent", "local")
    for service in (openmemory, mem0):
        (receipt,) = await service.remember([new])
        await service.recall(Question("Postgres migration"))
        await service.related(receipt.ref, 5)
        await service.listing()
        await service.health()
        assert await service.forget([receipt.ref]) == 1
    await openmemory.introduce()
    await openmemory.meaning.probe()
    called = fake_openmemory.asked + fake_mem0.asked
    assert not {f"{one['method']} {one['path']}" for one in never} & {one.what for one in called}
    assert not [one for one in called if "/actions/" in one.path or one.method in ("PUT", "PATCH")]


# --- How the real one behaves under load.

MEASURED = "openmemory/90_concurrency_timeouts"


def test_the_limits_are_those_that_were_measured():
    told = pair_of(MEASURED)
    assert told["landed_after_client_timeout"] == 1, "this is why a key is looked up before any retry"
    assert told["to"] == "ReadTimeout"
    slow = pair_of("openmemory/68_fail_cat_chat_500_infer_false")["elapsed_ms"] / 1000
    for adapter in (openmemory, mem0):
        assert adapter.WRITE_SECONDS > 1.5 * slow > told["post_s"]
        assert adapter.SETTLE_SECONDS > adapter.WRITE_SECONDS
        assert 20 * told["filter_ms_p95"] / 1000 < adapter.READ_SECONDS
    # A look-up waits as long as a creation does: it may not have the short time of a reader.
    assert told["concurrent_get_s"] > openmemory.READ_SECONDS
    assert told["filter_page_0"][0] == 500
    assert openmemory.LARGEST_PAGE <= 100
    # Health is not asked where the real one has nothing.
    assert openmemory.STATS not in [path for path, status in told["health"] if status != 200]


# --- Nothing captured goes unused.

USED = {
    *PAGES,
    *CREATED,
    *ONE,
    *DELETED,
    *HEALTH,
    *CHOSEN,
    *MEANING,
    *FAILED,
    *NOT_CALLED,
    "openmemory/64_get_deleted",
    "openmemory/59_mcp_add",
    "openmemory/60_mcp_add_new_user",
    MEASURED,
}


def test_every_captured_pair_is_used():
    assert FILES
    assert set(FILES) == USED
