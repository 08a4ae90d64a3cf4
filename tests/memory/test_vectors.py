"""The search by meaning, with wordllama's real vectors in a real database; and everything without them."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness import TestWorkspace, new_project
from stored_rows import change, dump, fetch

from bmad_mcp.app import memory_embedder
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import project_transaction
from bmad_mcp.errors import Unavailable
from bmad_mcp.memory import vector_queries
from bmad_mcp.memory.embedder import OFF, Embedder, find_embedder
from bmad_mcp.memory.forget_plan import plan_to_forget
from bmad_mcp.memory.forgetting import forget
from bmad_mcp.memory.keeping import Selection
from bmad_mcp.memory.vectors import AT_ONCE, embed_missing
from bmad_mcp.operation import perform
from bmad_mcp.settings import Settings

CLOUD = "Hosting on AWS is 4,100 euros monthly, two thirds of it for RDS."
ASKED = "How much does the cloud cost us?"
OTHERS = (
    "QA sent story 2.3 back: two acceptance criteria have no test.",
    "The checkout's translation is owned by ux; strings live in locales.",
    "The payment test is flaky in the pipeline when the clock jumps.",
    "TokenStore had a race between two tabs; a lock around refresh() mended it.",
    "The user wants commit messages without emoji.",
)
VECTORS = "SELECT memory_id, signs::text, code FROM mcp_memory_vectors ORDER BY memory_id"
CENTRE = "SELECT made_at FROM mcp_memory_centres"


@pytest.fixture
async def embedder() -> Embedder:
    found = find_embedder()
    assert found is not None
    await found.model()
    return found


@pytest.fixture
async def project(workspace, embedder) -> TestWorkspace:
    """A project that is searched by meaning too."""
    return TestWorkspace(replace(workspace.opened, embedder=embedder))


@pytest.fixture
def do(project):
    async def run(name, /, on=project, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), on)

    return run


async def keep(do, *texts, **more):
    return [(await do("memory_store", text=text, **more)).memory.id for text in texts]


async def test_a_question_in_other_words_finds_what_it_means(do, run, project, embedder):
    await keep(do, CLOUD, *OTHERS)
    # Not embedded yet, it is found by its words as before.
    assert (await do("memory_search", query="hosting")).items[0].why == "words hosting"
    assert (await do("memory_search", query=ASKED)).items[0].why == "latest"
    assert await embed_missing(project.opened, embedder) == 6
    first = (await do("memory_search", query=ASKED)).items[0]
    assert (first.text, first.why) == (CLOUD, "close in meaning")
    assert first.score > 0.5
    both = (await do("memory_context", focus="cost of hosting")).items[0]
    assert (both.text, both.why) == (CLOUD, "words hosting; close in meaning")
    # The same database in a process without the extra.
    assert {item.why for item in (await run("memory_search", query=ASKED)).items} == {"latest"}


async def test_nothing_is_close_to_what_has_nothing_to_do_with_it(do, project, embedder):
    await keep(do, *OTHERS)
    await embed_missing(project.opened, embedder)
    assert {item.why for item in (await do("memory_search", query="zebras graze in the savanna")).items} == {"latest"}


async def test_filters_hold_for_what_is_close_too(do, project, embedder):
    await keep(do, CLOUD, *OTHERS, agent="dev", category="AGENT_CONTEXT")
    await keep(do, "The bill for the machines at Azure doubled.", agent="qa", category="USER_PREFERENCES")
    await change(project.opened, "UPDATE mcp_memories SET created_at = now() - interval '9 days' WHERE agent = 'qa'")
    await embed_missing(project.opened, embedder)

    async def found(**filters):
        items = (await do("memory_search", query=ASKED, **filters)).items
        return {item.agent for item in items if "close in meaning" in item.why}

    assert await found() == {"dev", "qa"}
    assert await found(agent="qa") == await found(category="USER_PREFERENCES") == {"qa"}
    assert await found(since="7d") == {"dev"}


async def test_another_project_is_never_close(do, pool, project, embedder):
    other = TestWorkspace(replace(await new_project(pool), embedder=embedder))
    await keep(do, *OTHERS)
    await keep(do, CLOUD, on=other)
    for one in (project, other):
        await embed_missing(one.opened, embedder)
    assert CLOUD not in {item.text for item in (await do("memory_search", query=ASKED)).items}
    assert len(await fetch(other.opened, VECTORS)) == 1
    assert len(await fetch(project.opened, VECTORS)) == len(OTHERS)


async def test_related_memories_are_found_by_meaning(do, project, embedder):
    source, *_ = await keep(do, "Expenses of the servers grow each month.", CLOUD, *OTHERS, category="AGENT_CONTEXT")
    await embed_missing(project.opened, embedder)
    found = {item.text: item.why for item in (await do("memory_related", memory=source)).items}
    assert found[CLOUD] == "words monthly; close in meaning; same category"
    assert found[OTHERS[0]] == "same category"
    assert "Expenses of the servers grow each month." not in found


async def test_the_job_makes_what_is_missing_and_changes_nothing_else(do, project, embedder):
    await keep(do, CLOUD, *OTHERS)
    before = await dump(project.opened)
    assert await embed_missing(project.opened, embedder) == 6
    made = await fetch(project.opened, VECTORS)
    assert await embed_missing(project.opened, embedder) == 0
    assert await fetch(project.opened, VECTORS) == made
    assert await dump(project.opened) == before
    await keep(do, "One more.")
    assert await embed_missing(project.opened, embedder) == 1
    assert len(await fetch(project.opened, VECTORS)) == 7


async def test_two_at_once_leave_one_vector_each(do, project, embedder):
    await keep(do, CLOUD, *OTHERS)
    await asyncio.gather(*(embed_missing(project.opened, embedder) for _ in range(3)))
    await embed_missing(project.opened, embedder)
    assert len(await fetch(project.opened, VECTORS)) == 6
    assert (await do("memory_search", query=ASKED)).items[0].text == CLOUD


async def test_a_project_that_grew_gets_a_new_centre_and_all_vectors_anew(do, project, embedder):
    await keep(do, CLOUD)
    await embed_missing(project.opened, embedder)
    (old,), (centre,) = await fetch(project.opened, VECTORS), await fetch(project.opened, CENTRE)
    await keep(do, *OTHERS)
    assert await embed_missing(project.opened, embedder) == 6
    assert old not in await fetch(project.opened, VECTORS)
    # What somebody made for the old centre comes too late.
    async with project_transaction(project.opened.pool, project.opened.id) as db:
        await db.execute(vector_queries.FORGET_VECTORS)
        late = (centre["made_at"], [old["memory_id"]], [old["signs"]], [old["code"]])
        assert await db.execute(vector_queries.STORE_VECTORS, *late) == "INSERT 0 0"
    await change(project.opened, "UPDATE mcp_memory_centres SET model = 'another'")
    assert {item.why for item in (await do("memory_search", query=ASKED)).items} == {"latest"}
    assert await embed_missing(project.opened, embedder) == 6


async def test_more_than_fit_in_one_step_are_all_embedded(project, embedder):
    await change(
        project.opened,
        "INSERT INTO mcp_memories (project_id, text, category, author_kind, principal) SELECT bmad_project(),"
        " 'Memory ' || n, 'AGENT_CONTEXT', 'agent', 'local' FROM generate_series(1, $1::int) n",
        2 * AT_ONCE + 1,
    )
    assert await embed_missing(project.opened, embedder) == 2 * AT_ONCE + 1
    assert await embed_missing(project.opened, embedder) == 0


async def test_forgetting_erases_the_vector_too_and_the_mean_that_it_is_part_of(do, project, embedder):
    cloud, *_ = await keep(do, CLOUD, *OTHERS)
    await embed_missing(project.opened, embedder)
    caller = Caller("local", "test", "human")
    await forget(project.opened, await plan_to_forget(project.opened, [Selection(refs=(cloud,))], caller), caller)
    assert cloud not in {str(row["memory_id"]) for row in await fetch(project.opened, VECTORS)}
    assert len(await fetch(project.opened, VECTORS)) == len(OTHERS)
    assert await fetch(project.opened, CENTRE) == []
    assert await embed_missing(project.opened, embedder) == len(OTHERS)
    assert "close in meaning" not in {item.why for item in (await do("memory_search", query=ASKED)).items}
    assert (await do("memory_search", query="a flaky pipeline")).items[0].why.endswith("close in meaning")


async def test_no_extension_of_postgresql_is_needed(project):
    assert await fetch(project.opened, "SELECT 1 FROM pg_extension WHERE extname = 'vector'") == []


async def test_the_first_question_does_not_wait_for_the_model(do, project, embedder):
    await keep(do, CLOUD, *OTHERS)
    await embed_missing(project.opened, embedder)
    fresh = find_embedder()
    on = TestWorkspace(replace(project.opened, embedder=fresh))
    assert (await do("memory_search", on=on, query=ASKED)).items[0].why == "latest"
    await fresh.model()
    assert (await do("memory_search", on=on, query=ASKED)).items[0].why == "close in meaning"


async def test_a_broken_model_leaves_the_search_as_it_is_without(do, project, tmp_path, caplog):
    await keep(do, CLOUD)
    broken = Embedder(tmp_path, later_seconds=0)
    on = TestWorkspace(replace(project.opened, embedder=broken))
    assert (await do("memory_search", on=on, query="hosting")).items[0].text == CLOUD
    with pytest.raises(Unavailable, match="BMAD_MEMORY_VECTORS=off"):
        await broken.model()
    assert (await do("memory_search", on=on, query="hosting")).items[0].why == "words hosting"
    async with asyncio.timeout(10):
        while "without vectors" not in caplog.text:
            await asyncio.sleep(0.01)


def test_the_setting_turns_them_off():
    assert memory_embedder(Settings(memory_vectors="off")) is None
    assert memory_embedder(Settings(memory_vectors="auto")) is not None


WITHOUT_EXTRA = """
import sys
sys.modules["wordllama"] = None
from bmad_mcp.__main__ import main
main()
"""


def test_without_the_extra_everything_works_and_doctor_says_what_is_missing(server_env, tmp_path):
    def bmad(*arguments):
        command = [sys.executable, "-c", WITHOUT_EXTRA, "--project", "without-extra", *arguments]
        return subprocess.run(command, env=server_env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert bmad("import", str(Path(__file__).parents[2] / "bmad_mcp" / "sample")).returncode == 0
    found = {one["name"]: one for one in json.loads(bmad("doctor", "--json").stdout)}
    assert (found["Search"]["level"], found["Search"]["text"]) == ("ok", OFF)
    ran = bmad("jobs", "run", "embed")
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, f"bmad-mcp: embed has nothing to work on: {OFF}")


READ_ALONE = """
import asyncio, sys
from bmad_mcp.memory.embedder import find_embedder
async def read():
    model = await find_embedder().model()
    model.embed(["a text"])
asyncio.run(read())
print([name for name in ("wordllama", "requests", "huggingface_hub", "httpx", "urllib3") if name in sys.modules])
"""


def test_the_model_is_read_without_anything_that_could_reach_a_network():
    done = subprocess.run([sys.executable, "-c", READ_ALONE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_the_vectors_are_those_of_wordllama(embedder):
    import wordllama

    theirs = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    texts = [CLOUD, *OTHERS, "日本語", "x" * 4000]
    ours = (await embedder.model()).embed(texts)
    np.testing.assert_allclose(ours, theirs.embed(texts, norm=True), atol=1e-5)
