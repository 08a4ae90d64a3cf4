"""`python -m bench.remembering`: what a search over 20,000 memories finds, and how long it takes, four ways.

Beside the built-in memory stand the two searches that one writes first: ILIKE of the whole phrase, and full text with
plainto_tsquery, which wants every word; and the built-in memory with vectors, where the extra is installed. All run in
turn, as the app's role, in the same project. The questions are written by hand; few of their words are those of the
answer, and of the paraphrases none. `tests/memory/test_recall_quality.py` asks the same questions of a smaller corpus.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.paraphrases import PARAPHRASES
from bmad_mcp import migrate
from bmad_mcp.call import OpenProject
from bmad_mcp.db import Transaction, open_pool
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.categories import category_of
from bmad_mcp.memory.embedder import Embedder, find_embedder
from bmad_mcp.memory.identifiers import identifiers_of
from bmad_mcp.memory.provider import Question
from bmad_mcp.memory.vectors import embed_missing
from bmad_mcp.projects.open import open_project


class Case(NamedTuple):
    """A question, the memory that answers it, and what makes it hard."""

    kind: str
    question: str
    answer: str


CASES = (
    Case("words", "How do users reset a forgotten password?",
         "Password reset goes by mail: the link is valid for twenty minutes and works once."),
    Case("words", "where do we keep the payment provider's secret key",
         "The Stripe secret is read from Vault at start-up; only the payments gateway may hold it."),
    Case("words", "why is Mongo not our database",
         "Postgres was picked over Mongo since the reports join customers with invoices."),
    Case("words", "which rounding rule applies to invoices",
         "Amounts are integers in cents and are rounded once, on the invoice line, half up."),
    Case("words", "what does the user think about emoji",
         "The user asked for commit messages and answers without emoji."),
    Case("words", "in which language should we write the documentation",
         "Documentation is written in British English, the user insists on it."),
    Case("words", "what happened when the nightly backup was restored",
         "Restored the backup of the second region as a proof: forty minutes, two views had to be rebuilt."),
    Case("words", "who decides when qa and dev disagree about severity",
         "If QA and dev see severity differently, the product owner has the last word."),
    Case("words", "how can the build be made faster",
         "Caching the Gradle configuration and node modules took the build from nine to four minutes."),
    Case("words", "is the websocket hub still leaking memory",
         "The memory leak of the websocket hub is gone: listeners were never removed on disconnect."),
    Case("words", "what are the browser versions we support",
         "Supported browsers: the last two versions of Firefox, Chrome and Safari; nothing for IE."),
    Case("words", "time zone of reports",
         "Reports use Europe/Berlin; everything else is stored and shown in UTC."),
    Case("words", "how long may a database migration lock a table",
         "A migration must not hold a table lock for more than two seconds, larger ones are split."),
    Case("words", "how does offline mode resolve conflicts",
         "Offline edits merge field by field, the order given by the server wins a conflict."),
    Case("words", "what do we do with personal data in logs",
         "Personal data is masked by the logger; e-mail addresses in a log line are a GDPR incident."),
    Case("words", "how are feature flags turned on",
         "Flags live in flags.yaml and are read at boot, so a toggle needs a restart."),
    Case("words", "steps before the first story of an epic is drafted",
         "Before any story of an epic is drafted the architecture document has to be approved by the PO."),
    Case("words", "limit of uploads",
         "The load balancer cuts uploads at 25 MB; larger videos go straight to the bucket with a signed address."),
    Case("words", "flaky tests policy",
         "A flaky test is put in quarantine the same day, gets a task and is repaired within the sprint."),
    Case("words", "how many reviewers does a pull request need",
         "Each pull request needs one approval by QA and one by the module's owner."),
    Case("words", "why was the GraphQL layer dropped",
         "GraphQL was given up: the mobile team could not cache it and REST covered all screens."),
    Case("words", "customer complained about doubled invoices",
         "Doubled invoices came from a retry without idempotency key at the Stripe client."),
    Case("words", "accessibility of the checkout",
         "Accessibility audit of the checkout: two contrast faults and one missing label."),
    Case("words", "what did the load test say about search",
         "Load test of the search: 900 requests a second, p99 at 410 ms, no failures."),
    Case("words", "who owns translations",
         "Translations belong to ux; the strings live in locales and are exported on Thursday."),
    Case("words", "how does sign-in with a link work for guests",
         "Guests have no password: they sign in by a link that is mailed to them."),
    Case("words", "voucher together with staff discount",
         "A voucher cannot be combined with the staff discount, the cart takes the better one."),
    Case("words", "which hours is the user available for approvals",
         "The user works from eight to two, approvals asked for later wait for the next morning."),
    Case("words", "handoff notes that worked well",
         "The best handoff notes name decisions, open points and files; then dev asks one question at most."),
    Case("words", "what slows down approvals",
         "Stories wait two days for approval on average; batching them each morning would halve that."),
    Case("names", "T-1234", "T-1234 finished: the importer streams, memory stays below 80 MB."),
    Case("names", "what was the outcome of T-2077?", "Closed T-2077 as a duplicate; the fault sat in the proxy."),
    Case("names", "login.ts", "Throttling sits in src/auth/login.ts, five tries and then a minute's pause."),
    Case("names", "changes to src/pricing/tax.py", "src/pricing/tax.py: reverse charge for Swiss buyers was added."),
    Case("names", "story 1.4b", "Story 1.4b was cut out of 1.4 and holds only the error pages."),
    Case("names", "notes on 7.12c", "7.12c: the exporter part, blocked until legal replies."),
    Case("names", "TokenStore", "A race of two tabs in TokenStore was cured by a lock around refresh()."),
    Case("names", "what is lease_until for", "lease_until tells when another agent may take a held task over."),
    Case("names", "H-318 accepted?", "H-318 was taken by qa within an hour, one remark on seed data."),
    Case("names", "W-904 stages", "W-904 ran without the research stage, otherwise as planned."),
    Case("names", "SEC-0042", "SEC-0042: the filter allowed SQL injection, parameters are bound now."),
    Case("names", "release 4.44.3", "4.44.3 was pulled back after an hour, the installer lacked a certificate."),
    Case("names", "MAX_RETRY_WAIT value", "MAX_RETRY_WAIT is 90 seconds, since the partner bans for sixty."),
    Case("names", "epic 17", "Epic 17 is frozen until the contract with the carrier is signed."),
    Case("names", "kubernetes/ingress-admin.yaml", "kubernetes/ingress-admin.yaml carries the body limit."),
    Case("typos", "pasword resset mail link",
         "Password reset goes by mail: the link is valid for twenty minutes and works once."),
    Case("typos", "acessibility audit chekout",
         "Accessibility audit of the checkout: two contrast faults and one missing label."),
    Case("typos", "qurantine of flakky tests",
         "A flaky test is put in quarantine the same day, gets a task and is repaired within the sprint."),
    Case("typos", "kerberos constrainted delegaton",
         "Kerberos delegation is constrained to the report host, the intranet proxy needs it."),
    Case("typos", "barcode scaner firmwear",
         "The barcode scanner's firmware only sends Latin-1 and adds a line feed."),
    Case("typos", "thermostatt retaned messages",
         "Thermostats get no retained messages, the broker of the plant forbids them."),
    Case("typos", "webook signatur replay",
         "The webhook receiver checks the signature and refuses a replay after five minutes."),
    Case("typos", "graphql droped moblie team",
         "GraphQL was given up: the mobile team could not cache it and REST covered all screens."),
    Case("typos", "suported browsrs",
         "Supported browsers: the last two versions of Firefox, Chrome and Safari; nothing for IE."),
    Case("typos", "idempotncy key duplicate invoces",
         "Doubled invoices came from a retry without idempotency key at the Stripe client."),
    Case("plurals", "reservations and seats",
         "A seat is reserved for eight minutes, the countdown is on the page."),
    Case("plurals", "printer drivers at depots",
         "The printer driver of the label station is installed by hand in each depot."),
    Case("plurals", "tournaments brackets computing",
         "The tournament's bracket is computed from the rating snapshot and never saved."),
    Case("plurals", "loyalty point merges",
         "When two accounts are merged the loyalty points move to the surviving one."),
    Case("plurals", "archiving of documents for tax auditors",
         "The tax auditor wants each document archived for ten years, unaltered."),
    Case("plurals", "map tile licences",
         "The licence of the public map forbids caching, so tiles come from our own server."),
    Case("other words", "how do we get rid of old carts",
         "Carts without a customer are purged by a job after ninety days."),
    Case("other words", "can people change their e-mail address",
         "A customer may alter the e-mail of the account with double opt-in."),
    Case("other words", "is there a bug with daylight saving",
         "Cron skips a run in the night the clocks go forward; the scheduler uses UTC since then."),
    Case("other words", "authentication for machines",
         "Machine clients authenticate by mTLS with a certificate of the platform team."),
    Case("other words", "deleting an order",
         "Orders are never removed: deleted_at hides the row from all lists."),
    Case("other words", "speed of the order list",
         "An index on customer and date made the list of orders fast."),
    Case("other words", "what should we improve in planning",
         "Planning: nobody reads the market section of the brief, leave it out."),
)  # fmt: skip

# Beside the others: what the weights were chosen by is counted alone.
HELD_OUT = tuple(Case("paraphrases", question, answer) for question, answer in PARAPHRASES)


def _parts(text: str) -> list[str]:
    return text.split("|")


# What the other memories are made of. They share most of their words with the questions.
SUBJECTS = _parts(
    "login form|password policy|invoice list|payment page|search box|order history|export job|report view|import queue|"
    "backup script|feature flag panel|checkout|voucher field|translation file|user profile|mail template|webhook log|"
    "upload dialog|session table|database view|browser test|review checklist|handoff note|story template|build cache|"
    "deployment script|release notes|customer record|discount rule|address book|audit trail|notification bell|"
    "product page|rate limiter|retry loop|error page|settings screen|approval step|language switch|time picker|"
    "document viewer|label printer|guest account|memory cache|map widget|seat plan|price list|log viewer|data model"
)
DOINGS = _parts(
    "was reviewed by {agent} and sent back once|is slow when a customer has many orders|needs a test for the empty state|"
    "lost its translation in the last release|was rewritten and is shorter now|is documented in docs/{file}.md|"
    "fails in the nightly build now and then|should be reviewed before the next story|has a new field for the user|"
    "was handed from {agent} to {other} with two open points|shows a wrong total when a discount applies|"
    "got an index and is faster|is blocked by story {story}|does not work without the database|"
    "was approved by the product owner on Monday|is covered by {number} tests|waits for an answer of {agent}|"
    "uses the same key as the old one|was split into two parts in {task}|asks for the password twice|"
    "keeps its data for {number} days|writes too much to the log|was tested with {number} users|"
    "is owned by {agent}|reads its limits from {path}|was changed in {path} and released|"
    "takes {number} ms at the median|shall look like the one in story {story}"
)
FRAMES = _parts(
    "The {subject} {doing}.|{task}: the {subject} {doing}.|{agent} says that the {subject} {doing}.|"
    "Session: looked at the {subject}; it {doing}. Continue with the {second}.|"
    "Story {story}: the {subject} {doing}, the {second} is not touched.|"
    "The user wants the {subject} to look like the {second}.|Done: {subject} and {second}, see {path}.|"
    "Lesson from {task}: whenever the {subject} changes, check the {second} too.|"
    "Decision: the {subject} stays as it is because the {second} depends on it.|"
    "Gate of story {story}: the {subject} {doing}.|How the {subject} and the {second} work together: {path}.|"
    "{agent} handed the {subject} to {other}, who asked about the {second}."
)
AGENTS = ("dev", "qa", "sm", "po", "pm", "ux", "architect", "analyst")
FOLDERS = ("src/auth", "src/pricing", "src/cart", "web/pages", "web/forms", "jobs", "tools/import", "api/v2")
SYLLABLES = ("ka", "ro", "mi", "tel", "var", "sen", "lo", "pix", "dun", "ster", "gra", "vo", "nim", "quo", "bel", "tar")


def corpus(size: int, seed: int = 11) -> Iterator[tuple[str, str]]:
    """Memories with their agents: the answers spread among others that are made from templates; the same each time."""
    chance = random.Random(seed)  # noqa: S311
    answers = list(dict.fromkeys(case.answer for case in CASES))
    places = dict(zip(chance.sample(range(size), len(answers)), answers, strict=True))
    free = [place for place in range(size) if place not in places]
    held_out = dict(zip(free[:: len(free) // len(HELD_OUT)], (case.answer for case in HELD_OUT), strict=False))
    for place in range(size):
        # Made also where it is not used, so that the rest stays what it was.
        text = places.get(place) or _other(chance)
        yield held_out.get(place, text), chance.choice(AGENTS)


def _other(chance: random.Random) -> str:
    def name() -> str:
        return "".join(chance.choices(SYLLABLES, k=3))

    # Keys of answers are left out, so that each question has one right answer.
    task = f"T-{chance.choice((chance.randrange(1, 1200), chance.randrange(2100, 9000)))}"
    words = {
        "task": task,
        "agent": chance.choice(AGENTS),
        "other": chance.choice(AGENTS),
        "story": f"{chance.randrange(1, 16)}.{chance.randrange(1, 12)}",
        "number": str(chance.randrange(2, 900)),
        "file": name(),
        "path": f"{chance.choice(FOLDERS)}/{name()}.{chance.choice(('ts', 'py', 'go', 'sql'))}",
        "subject": chance.choice(SUBJECTS),
        "second": chance.choice(SUBJECTS),
    }
    words["doing"] = chance.choice(DOINGS).format(**words)
    return chance.choice(FRAMES).format(**words)


STORE = """
INSERT INTO mcp_memories (project_id, id, text, category, agent, author_kind, principal, confidence, identifiers,
    created_at)
SELECT bmad_project(), bmad_uuid7(), m.text, m.category, m.agent, 'agent', 'local', 0.7,
    ARRAY(SELECT jsonb_array_elements_text(m.names)), now() - m.age * interval '1 minute'
FROM jsonb_to_recordset($1::jsonb) AS m(text text, category text, agent text, names jsonb, age int)
"""
PHRASE = """
SELECT text FROM mcp_memories WHERE project_id = bmad_project() AND text ILIKE '%' || $1 || '%'
ORDER BY created_at DESC LIMIT $2
"""
ALL_WORDS = """
SELECT text FROM mcp_memories, plainto_tsquery('english', $1) asked
WHERE project_id = bmad_project() AND search @@ asked ORDER BY ts_rank(search, asked) DESC, id DESC LIMIT $2
"""


async def fill(db: Transaction, size: int) -> None:
    """Put a corpus of this size into the transaction's project."""
    rows = [
        {
            "text": text,
            "category": str(category_of(text).category),
            "agent": agent,
            "names": identifiers_of(text),
            # Spread over four months, whatever the size.
            "age": (size - at) * 172_800 // size,
        }
        for at, (text, agent) in enumerate(corpus(size))
    ]
    for start in range(0, size, 2_000):
        await db.execute(STORE, rows[start : start + 2_000])


Search = Callable[[Transaction, str, int], Awaitable[list[str]]]


async def by_phrase(db: Transaction, question: str, limit: int) -> list[str]:
    return [row["text"] for row in await db.fetch(PHRASE, question, limit)]


async def by_all_words(db: Transaction, question: str, limit: int) -> list[str]:
    return [row["text"] for row in await db.fetch(ALL_WORDS, question, limit)]


def by_memory(embedder: Embedder | None = None) -> Search:
    async def search(db: Transaction, question: str, limit: int) -> list[str]:
        return [item.text for item in await BuiltinMemory(db, embedder).recall(Question(question, limit=limit))]

    return search


WAYS: dict[str, Search] = {"ILIKE": by_phrase, "plainto": by_all_words, "built-in": by_memory()}


def ways(embedder: Embedder | None) -> dict[str, Search]:
    return WAYS if embedder is None else WAYS | {"+ vectors": by_memory(embedder)}


class Figures(NamedTuple):
    """What one way of searching found and how long each question took."""

    found: dict[str, list[bool]]
    seconds: list[float]
    missed: list[str]

    @property
    def recall(self) -> float:
        """Of all kinds but the one that is held out."""
        return statistics.fmean(hit for kind, hits in self.found.items() if kind != HELD_OUT[0].kind for hit in hits)


async def measured(
    db: Transaction, rounds: int = 1, limit: int = 5, embedder: Embedder | None = None
) -> dict[str, Figures]:
    """Each question asked in each way, in turn."""
    searches = ways(embedder)
    figures = {name: Figures({}, [], []) for name in searches}
    for turn in range(rounds):
        for case in (*CASES, *HELD_OUT):
            for name, search in searches.items():
                began = time.perf_counter()
                texts = await search(db, case.question, limit)
                figures[name].seconds.append(time.perf_counter() - began)
                if turn == 0:
                    figures[name].found.setdefault(case.kind, []).append(case.answer in texts)
                    if case.answer not in texts:
                        figures[name].missed.append(case.question)
    return figures


def show(figures: dict[str, Figures], size: int) -> None:
    kinds = list(dict.fromkeys(case.kind for case in (*CASES, *HELD_OUT)))
    asked = f"{len(CASES)} questions, and {len(HELD_OUT)} paraphrases which are not in the sum"
    print(f"\n{asked}, over {size:,} memories: recall@5, and ms for one search")  # noqa: T201
    print(f"{'':<10}{'recall@5':>9}{''.join(f'{kind:>13}' for kind in kinds)}{'p50':>9}{'p95':>9}")  # noqa: T201
    for name, one in figures.items():
        by_kind = "".join(f"{statistics.fmean(one.found[kind]):>13.2f}" for kind in kinds)
        cuts = statistics.quantiles(one.seconds, n=20)
        print(f"{name:<10}{one.recall:>9.3f}{by_kind}{cuts[9] * 1000:>9.1f}{cuts[18] * 1000:>9.1f}")  # noqa: T201
    for name in list(figures)[2:]:
        print(f"not found, {name}:", *figures[name].missed, sep="\n  ")  # noqa: T201


async def compared(app: dict[str, Any], size: int, rounds: int) -> dict[str, Figures]:
    """A new project with a corpus, and what each way finds in it."""
    pool = await open_pool(**app)
    async with pool.acquire() as connection:
        project_id, _ = await open_project(connection, "remembering", "remembering")
    db = Transaction(pool, project_id)
    try:
        await fill(db, size)
        await db.end("COMMIT")
        embedder = find_embedder()
        if embedder is not None:
            began = time.perf_counter()
            made = await embed_missing(OpenProject(project_id, "remembering", pool), embedder)
            print(f"{made:,} vectors made in {time.perf_counter() - began:.1f} s")  # noqa: T201
        await measured(db, embedder=embedder)
        return await measured(db, rounds, embedder=embedder)
    finally:
        await db.end("ROLLBACK")
        await pool.close()


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.remembering", description=__doc__)
    options.add_argument("--size", type=int, default=20_000, help="memories in the project (default 20000)")
    options.add_argument("--rounds", type=int, default=3, help="times each question is asked (default 3)")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bmad-bench-") as folder:
        # Run as root, PostgreSQL's own user must be able to enter.
        Path(folder).chmod(0o711)
        with Cluster(Path(folder) / "postgres") as endpoints:
            owner, app = (endpoints.connect_args(role) for role in (endpoints.owner_role, endpoints.app_role))
            migrate.upgrade("postgresql://", **owner)
            show(asyncio.run(compared(app, chosen.size, chosen.rounds)), chosen.size)


if __name__ == "__main__":
    main()
