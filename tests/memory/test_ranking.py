"""Ranking on 200 memories: what fits stands at the top, and the nudges stay small."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.memory import queries
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.identifiers import identifiers_of
from bmad_mcp.memory.provider import Question
from bmad_mcp.operation import perform

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


async def test_of_equal_texts_one_is_told_the_newer_the_surer_or_the_own_one(run, sql):
    await put(sql, "gate rule alpha", days=40)
    await put(sql, "gate rule alpha", days=0)
    (newer,) = (await run("memory_context", focus="alpha")).items
    assert newer.created_at > datetime.now(UTC) - timedelta(days=1)
    await put(sql, "gate rule beta", confidence=1.0)
    await put(sql, "gate rule beta", confidence=0.1)
    (sure,) = (await run("memory_context", focus="beta")).items
    assert (sure.confidence, sure.why) == (1.0, "words beta; stored 2 times")
    # Stored twice: it is less doubtful than it was said to be.
    await put(sql, "gate rule delta", confidence=0.1)
    await put(sql, "gate rule delta", confidence=0.1)
    (doubtful,) = (await run("memory_context", focus="delta")).items
    assert doubtful.confidence == 0.37
    await put(sql, "gate rule gamma", agent="dev")
    await put(sql, "gate rule gamma", agent="qa")
    for agent in ("dev", "qa"):
        found = (await run("memory_context", focus="gamma", agent=agent)).items[0]
        assert (found.agent, found.why) == (agent, f"words gamma; stored 2 times; by {agent}")


async def test_the_nudges_never_beat_a_clearly_better_match(run, sql):
    await put(sql, "T-5 token refresh in TokenStore", days=3000, confidence=0.0)
    for number in range(30):
        await put(sql, f"token number {number}", confidence=1.0, agent="dev")
    first = (await run("memory_context", focus="T-5 token refresh TokenStore", agent="dev")).items[0]
    assert first.text == "T-5 token refresh in TokenStore"


async def test_a_recall_is_one_statement(call, two_hundred):
    sent = []

    class Counted:
        vault = None

        async def fetch(self, statement, *values):
            sent.append(statement)
            return await call.db.fetch(statement, *values)

    found = await BuiltinMemory(Counted()).recall(Question("token refresh in T-41", agent="dev"))
    assert found[0].text == FACTS["T-41"]
    assert sent == [queries.RECALL]


async def test_a_rare_word_counts_more_than_common_ones(run, sql):
    for number in range(40):
        await put(sql, f"the review of the login form in round {number}")
    await put(sql, "kerberos wants a ticket", days=90)
    found = (await run("memory_context", focus="review of the login form and kerberos")).items
    assert "kerberos wants a ticket" in [item.text for item in found]


async def test_words_side_by_side_go_before_the_same_words_apart(run, sql):
    await put(sql, "flag in the feature list of blue")
    await put(sql, "feature flag in the list of blue", days=5)
    assert (await run("memory_context", focus="feature flag")).items[0].text.startswith("feature flag")


async def test_a_misspelt_word_finds_what_was_meant_and_says_so(run, two_hundred):
    first = (await run("memory_context", focus="trasnlation chekout")).items[0]
    assert first.text == FACTS["who owns the translation of the checkout"]
    assert first.why == "spelt like checkout, translation"


async def test_a_question_of_known_words_is_not_respelt(call, two_hundred):
    sent = []

    class Counted:
        vault = None

        async def fetch(self, statement, *values):
            sent.append(statement)
            return await call.db.fetch(statement, *values)

    await BuiltinMemory(Counted()).recall(Question("translation zzzzz of the checkout"))
    assert sent == [queries.RECALL]
    await BuiltinMemory(Counted()).recall(Question("qqqqq zzzzz"))
    assert sent[1:] == [queries.RECALL, queries.VOCABULARY]


async def test_what_fits_the_kind_of_question_wins_between_equals(run, sql):
    await put(sql, "Colour blue for one")
    await put(sql, "Colour blue for two")
    await sql("UPDATE mcp_memories SET category = 'USER_PREFERENCES' WHERE text LIKE '%one'")
    focus = "what does the user prefer: colour blue?"
    assert (await run("memory_context", focus=focus)).items[0].category == "USER_PREFERENCES"
    assert (await run("memory_context", focus="colour blue")).items[0].category == "AGENT_CONTEXT"


async def test_respelling_never_looks_into_another_project(run, elsewhere):
    await perform(BY_NAME["memory_store"], {"text": "Canary checkout"}, Caller(), elsewhere)
    await run("memory_store", text="Something else")
    (item,) = (await run("memory_search", query="chekout")).items
    assert (item.text, item.why) == ("Something else", "latest")


async def test_related_memories_come_from_other_categories_too(run):
    async def store(text, category):
        return (await run("memory_store", text=text, category=category)).memory.id

    source = await store("T-70 moved the invoice ledger to cents in src/ledger.py", "TASK_COMPLETION")
    await store("src/ledger.py is the only place that rounds", "AGENT_CONTEXT")
    await store("Gate after T-70: PASS", "QUALITY_METRICS")
    await store("The user wants each invoice in cents", "USER_PREFERENCES")
    await store("T-71 renamed a button", "TASK_COMPLETION")
    await store("Zebras graze", "AGENT_SESSIONS")
    found = {item.text: item for item in (await run("memory_related", memory=source)).items}
    assert {item.category for item in found.values()} == {
        "AGENT_CONTEXT", "QUALITY_METRICS", "USER_PREFERENCES", "TASK_COMPLETION",
    }  # fmt: skip
    assert found["src/ledger.py is the only place that rounds"].why.startswith("names ledger.py, src/ledger.py")
    assert found["Gate after T-70: PASS"].why == "names t-70"
    assert found["The user wants each invoice in cents"].why == "words invoice, cents"
    assert found["T-71 renamed a button"].why == "same category"
    assert list(found)[-1] == "T-71 renamed a button"
