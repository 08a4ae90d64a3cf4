"""Ranking on 200 memories: what fits stands at the top, and the nudges stay small."""

import random

import pytest

from bmad_mcp.memory import queries
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.identifiers import identifiers_of
from bmad_mcp.memory.provider import Question

pytest_plugins = ("stories.fixtures",)

SUBJECTS = ["cart", "invoice", "search page", "image upload", "report", "mailer", "queue worker", "theme", "audit log"]
VERBS = ["was split", "is slow on", "needs a retry in", "got a test for", "lost a field in", "is documented in"]
PLACES = ["the admin area", "the export job", "the mobile view", "the nightly run", "the billing module"]

FACTS = {
    "How do we refresh an expired token at sign-in?": "Sign-in refreshes the token once, then shows the login form",
    "which database index made the order list fast": "An index on orders by customer and date made the order list fast",
    "What did QA say about story 2.3?": "QA sent story 2.3 back: two acceptance criteria have no test",
    "changes in src/pricing/tax.py": "src/pricing/tax.py rounds half up; see the ledger tests",
    "does the user want emoji in commit messages": "The user wants commit messages without emoji",
    "why did we choose UUIDv7 keys": "UUIDv7 keys were chosen because new rows land at the end of the index",
    "who owns the translation of the checkout": "The checkout's translation is owned by ux; strings live in locales/",
    "TokenStore race": "TokenStore had a race between two tabs; a lock around refresh() mended it",
    "flaky payment test in the pipeline": "The payment test is flaky in the pipeline when the clock jumps",
    "T-41": "T-41 finished: the parser keeps comments",
}


@pytest.fixture
async def two_hundred(sql):
    """190 memories about other things, spread over 60 days, and ten facts among them."""
    noise = random.Random(7)
    texts = [
        f"The {noise.choice(SUBJECTS)} {noise.choice(VERBS)} {noise.choice(PLACES)}, seen in T-{noise.randrange(99, 400)}"
        for _ in range(190)
    ]
    texts += FACTS.values()
    noise.shuffle(texts)
    await sql(
        "INSERT INTO mcp_memories (project_id, text, category, agent, author_kind, principal, identifiers, created_at)"
        " SELECT bmad_project(), m.text, 'AGENT_CONTEXT', 'dev', 'agent', 'local',"
        " ARRAY(SELECT jsonb_array_elements_text(m.names)), now() - make_interval(days => (m.at * 60 / 200)::int)"
        " FROM jsonb_to_recordset($1::jsonb) AS m(text text, names jsonb, at int)",
        [{"text": text, "names": identifiers_of(text), "at": at} for at, text in enumerate(texts)],
    )


async def test_each_question_has_its_fact_on_top(run, two_hundred):
    places = {}
    for question, fact in FACTS.items():
        found = [item.text for item in (await run("memory_context", focus=question, limit=5)).items]
        places[question] = found.index(fact) if fact in found else None
    assert None not in places.values(), places
    assert sum(place == 0 for place in places.values()) >= 9, places


async def test_scores_fall_and_a_reason_stands_with_each(run, two_hundred):
    items = (await run("memory_context", focus="retry of the queue worker in T-41", limit=20)).items
    assert len(items) == 20
    assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)
    assert all(item.why.startswith(("words", "names")) for item in items)
    assert items[0].text == FACTS["T-41"] or "queue worker" in items[0].text


async def put(sql, text, *, days=0.0, confidence=0.7, agent=None):
    await sql(
        "INSERT INTO mcp_memories (project_id, text, category, agent, author_kind, principal, identifiers, confidence,"
        " created_at) VALUES (bmad_project(), $1, 'AGENT_CONTEXT', $2, 'agent', 'local', $3, $4,"
        " now() - $5 * interval '1 day')",
        text,
        agent,
        identifiers_of(text),
        confidence,
        days,
    )


async def test_of_two_equal_texts_the_newer_the_surer_or_the_own_one_wins(run, sql):
    await put(sql, "gate rule alpha", days=40)
    await put(sql, "gate rule alpha", days=0)
    first = (await run("memory_context", focus="alpha")).items
    assert first[0].created_at > first[1].created_at
    await put(sql, "gate rule beta", confidence=0.1)
    await put(sql, "gate rule beta", confidence=1.0)
    assert [item.confidence for item in (await run("memory_context", focus="beta")).items] == [1.0, 0.1]
    await put(sql, "gate rule gamma", agent="dev")
    await put(sql, "gate rule gamma", agent="qa")
    for agent in ("dev", "qa"):
        found = (await run("memory_context", focus="gamma", agent=agent)).items[0]
        assert (found.agent, found.why) == (agent, f"words gamma; by {agent}")


async def test_the_nudges_never_beat_a_clearly_better_match(run, sql):
    await put(sql, "T-5 token refresh in TokenStore", days=3000, confidence=0.0)
    for number in range(30):
        await put(sql, f"token number {number}", confidence=1.0, agent="dev")
    first = (await run("memory_context", focus="T-5 token refresh TokenStore", agent="dev")).items[0]
    assert first.text == "T-5 token refresh in TokenStore"


async def test_a_recall_is_one_statement(call, two_hundred):
    sent = []

    class Counted:
        async def fetch(self, statement, *values):
            sent.append(statement)
            return await call.db.fetch(statement, *values)

    found = await BuiltinMemory(Counted()).recall(Question("token refresh in T-41", agent="dev"))
    assert found[0].text == FACTS["T-41"]
    assert sent == [queries.RECALL]
