"""SQL of the built-in memory: rankings by what matched, fused by rank, in one statement."""

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.encryption.people import told
from bmad_mcp.memory.categories import MemoryCategory

# Reciprocal rank fusion: an item counts weight * strength / (60 + its place in a ranking), where strength is its own
# worth beside the best of that ranking, so that a clear winner stays one. A name that matches is stronger evidence
# than a word. Age, evidence and such only nudge; `builtin` does that.
K = 60
PER_RANKING = 60
WORD_WEIGHT, NAME_WEIGHT, MEANING_WEIGHT, CATEGORY_WEIGHT = 1.0, 1.5, 1.0, 0.25
NEAR_BONUS = 0.15
MOST_WORDS = 40


def keeping(first: int = 1, source: str = "") -> str:
    """CTEs that keep a memory, note it, and see to its delivery, from the parameter `first` on, for each row of a source.

    A job of its queue that waits already is enough. Locked, it cannot begin before this transaction ends: then it sees
    what was kept.
    """
    (ref, text, category, agent, kind, principal, confidence, names, delivery, operation, entrypoint, payload, search,
     mark) = (f"${number}" for number in range(first, first + PARAMETERS))  # fmt: skip
    return f"""kept AS (
    INSERT INTO mcp_memories (project_id, id, text, category, agent, author_kind, principal, confidence, identifiers,
        delivery, search, text_mark)
    SELECT bmad_project(), {ref}::uuid, {text}::text, {category}::text, {agent}::text, {kind}::text, {principal}::text,
        {confidence}::float8, {names}::text[], {delivery}::text,
        coalesce({search}::text::tsvector, to_tsvector('english', {text}::text)), {mark}::text
    {source}
    RETURNING category, agent, delivery, id
), noted AS (
    INSERT INTO bmad_memory_integrations (project_id, direction, provider, category, agent, outcome, items, detail)
    SELECT bmad_project(), 'store', 'builtin', category, agent, delivery, 1,
        jsonb_build_object('operation', {operation}::text, 'memory', id::text)
    FROM kept
), job AS MATERIALIZED (
    SELECT id FROM mcp_pgqueuer
    WHERE {delivery}::text = 'queued' AND status = 'queued' AND entrypoint = {entrypoint}::text
      AND payload = {payload}::bytea
    LIMIT 1 FOR KEY SHARE SKIP LOCKED
), enqueued AS (
    INSERT INTO mcp_pgqueuer (priority, entrypoint, payload, execute_after, headers, status)
    SELECT 0, {entrypoint}::text, {payload}::bytea, now(), 'null'::jsonb, 'queued'
    FROM kept WHERE kept.delivery = 'queued' AND NOT EXISTS (SELECT FROM job)
    RETURNING id, entrypoint, priority
), logged AS (
    INSERT INTO mcp_pgqueuer_log (job_id, status, entrypoint, priority)
    SELECT id, 'queued', entrypoint, priority FROM enqueued
)"""


# How many parameters it takes.
PARAMETERS = 14
STORE = f"WITH {keeping()} SELECT FROM kept"
FORGET = "DELETE FROM mcp_memories WHERE project_id = bmad_project() AND id = ANY($1::uuid[])"
COUNT = "SELECT count(*) FROM mcp_memories WHERE project_id = bmad_project()"

_PROVENANCE = f"""{told("m.principal")} AS principal, m.author_kind AS author, m.agent,
    date_trunc('second', m.created_at) AS created_at, m.delivery, m.provider, m.attempts, m.failure
FROM mcp_memories m WHERE m.project_id = bmad_project()"""
PROVENANCE = f"SELECT m.id::text AS id, {_PROVENANCE} AND m.id = ANY($1::uuid[])"
# What a memory service found has the service's ids.
PROVENANCE_OF_DELIVERED = f"""
SELECT m.service_ref AS id, {_PROVENANCE} AND m.delivery = 'delivered' AND m.service_ref = ANY($1::text[])
"""

NOTE = """
INSERT INTO bmad_memory_integrations (project_id, direction, provider, category, agent, outcome, items, latency_ms,
    detail)
VALUES (bmad_project(), $1, $2, $3, $4, $5, $6, $7, $8)
"""
# Look-ups are reads: where a read-only role or a replica cannot note them, they still answer.
MAY_NOTE = """
SELECT current_setting('transaction_read_only') = 'off' AND has_table_privilege('bmad_memory_integrations', 'INSERT')
"""

# Agents and sessions lie above memory: their tables are only read, to know an author by any of its names.
NAMED = """(SELECT a.name FROM bmad_agents a
    WHERE a.project_id = bmad_project() AND (a.name = $1::text OR $1::text = ANY(a.aliases))
    ORDER BY a.name <> $1::text, a.name LIMIT 1)"""
AUTHOR = f"""
SELECT {NAMED} AS named,
    {ACTING_AGENT.format(caller="$2")} AS in_session,
    (SELECT string_agg(a.name, ', ' ORDER BY a.name) FROM bmad_agents a
     WHERE a.project_id = bmad_project()) AS known
"""

# Lexemes as a tsquery that wants any of them: a natural question asked with AND finds nothing.
ANY_OF = r"""string_agg('''' || replace(replace(l.lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery"""
# Two words of the question that stand side by side in the memory too.
NEAR = r"""
    (SELECT string_agg(format('''%s'' <%s> ''%s''', replace(replace(a.lexeme, '\', '\\'), '''', ''''''),
         b.at - a.at, replace(replace(b.lexeme, '\', '\\'), '''', '''''')), ' | ')::tsquery
     FROM (SELECT u.lexeme, u.positions[1] AS at FROM asking, unnest(vector) u) a
     JOIN (SELECT u.lexeme, u.positions[1] AS at FROM asking, unnest(vector) u) b ON b.at - a.at IN (1, 2)
     WHERE a.at < 64) AS near"""


def _asked(vector: str, more: str, names: str) -> str:
    """The words that tell most of a tsvector (the most used ones, then the longest), with more words and names."""
    return f"""
asking AS MATERIALIZED (SELECT {vector} AS vector), asked AS MATERIALIZED (
    SELECT array_agg(l.lexeme) AS words, {ANY_OF} AS query, {names} AS names, {NEAR}
    FROM ((SELECT u.lexeme FROM asking, unnest(vector) u
           ORDER BY cardinality(u.positions) DESC NULLS LAST, length(u.lexeme) DESC, u.lexeme LIMIT {MOST_WORDS})
          UNION SELECT unnest({more})) l
)"""


def _rankings(eligible: str) -> str:
    """One pass over the project's memories, then a ranking for each way to match: rare words and names count most."""
    # One pass, as row security keeps `@@` and `&&` (which are not leakproof) from using an index.
    return f"""
matched AS MATERIALIZED (
    SELECT m.id, m.search, m.identifiers && asked.names AS named, m.identifiers, hashtextextended(coalesce(m.text_mark, m.text), 0) AS same
    FROM (SELECT * FROM asked WHERE query IS NOT NULL OR names <> '{{}}') asked
    JOIN mcp_memories m ON m.search @@ asked.query OR m.identifiers && asked.names
    WHERE m.project_id = bmad_project() {eligible}
), size AS MATERIALIZED (
    SELECT count(*)::float8 AS memories, greatest(avg(length(search)), 1)::float8 AS words FROM matched
), word_hits AS MATERIALIZED (
    SELECT x.id, u.lexeme AS hit, length(x.search) AS words
    FROM asked, matched x, unnest(x.search) u WHERE u.lexeme = ANY(asked.words)
), name_hits AS MATERIALIZED (
    SELECT x.id, u.hit FROM asked, matched x, unnest(x.identifiers) u(hit) WHERE x.named AND u.hit = ANY(asked.names)
), word_worth AS MATERIALIZED (
    SELECT hit, ln(1 + (SELECT memories FROM size) / count(*)) AS worth FROM word_hits GROUP BY hit
), name_worth AS MATERIALIZED (
    SELECT hit, ln(1 + (SELECT memories FROM size) / count(*)) AS worth FROM name_hits GROUP BY hit
), by_words AS (
    SELECT id, {WORD_WEIGHT}::float8 AS weight, worth / max(worth) OVER () AS strength,
        row_number() OVER (ORDER BY worth DESC, id DESC) AS place
    FROM (SELECT w.id, w.worth * CASE WHEN x.search @@ asked.near THEN 1 + {NEAR_BONUS} ELSE 1 END AS worth
          FROM (SELECT h.id, sum(v.worth) / (0.75 + 0.25 * max(h.words) / max(size.words)) AS worth
                FROM word_hits h JOIN word_worth v USING (hit), size
                GROUP BY h.id ORDER BY worth DESC, h.id DESC LIMIT 2 * {PER_RANKING}) w
          JOIN matched x USING (id), asked) r
    ORDER BY place LIMIT {PER_RANKING}
), by_names AS (
    SELECT id, {NAME_WEIGHT}::float8 AS weight, worth / max(worth) OVER () AS strength,
        row_number() OVER (ORDER BY worth DESC, id DESC) AS place
    FROM (SELECT h.id, sum(v.worth) AS worth FROM name_hits h JOIN name_worth v USING (hit) GROUP BY h.id) r
    ORDER BY place LIMIT {PER_RANKING}
)"""


def _by_meaning(ids: str, closeness: str) -> str:
    """The ranking of what `vectors` found. Squared, as the cosines of strangers are not far from those of kin."""
    return f"""
by_meaning AS (
    SELECT id, {MEANING_WEIGHT}::float8 AS weight, (closeness / max(closeness) OVER ()) ^ 2 AS strength,
        row_number() OVER (ORDER BY closeness DESC, id DESC) AS place
    FROM unnest({ids}::uuid[], {closeness}::float8[]) c (id, closeness)
)"""


FUSED = f"sum(r.weight * r.strength / ({K} + r.place)) * ({K} + 1)"
SHOWN = """m.id, m.text, m.category, date_trunc('second', m.created_at) AS created_at, m.confidence, m.agent,
    m.author_kind, extract(epoch FROM now() - m.created_at)::float8 / 86400 AS days,
    coalesce(evidence.times - 1, 0) AS confirmed, hashtextextended(coalesce(m.text_mark, m.text), 0) AS same,
    ARRAY(SELECT u.lexeme FROM unnest(m.search) u WHERE u.lexeme = ANY(asked.words)
          ORDER BY u.positions[1] LIMIT 6) AS words,
    ARRAY(SELECT unnest(m.identifiers) INTERSECT SELECT unnest(asked.names) ORDER BY 1 LIMIT 6) AS names"""

_ELIGIBLE = """AND ($4::text IS NULL OR m.category = $4::text) AND ($5::text IS NULL OR m.agent = $5::text)
      AND ($6::timestamptz IS NULL OR m.created_at >= $6::timestamptz)"""

# When nothing matches, the latest are better than nothing: they come with the score 0. `unknown` are the words of the
# question that no memory has.
RECALL = f"""
WITH {_asked("to_tsvector('english', $1::text)", "$8::text[]", "$2::text[]")}, {_rankings(_ELIGIBLE)},
{_by_meaning("$9", "$10")}, best AS (
    SELECT greatest({WORD_WEIGHT}::float8 * (asked.query IS NOT NULL)::int
        + {NAME_WEIGHT}::float8 * (asked.names <> '{{}}')::int,
        {MEANING_WEIGHT}::float8 * (cardinality($9) > 0)::int) AS score
    FROM asked
), found AS (
    SELECT r.id, {FUSED} AS score
    FROM (SELECT * FROM by_words UNION ALL SELECT * FROM by_names UNION ALL SELECT * FROM by_meaning) r GROUP BY r.id
    ORDER BY score DESC, r.id DESC LIMIT greatest(2 * $7::int, 30)
), evidence AS MATERIALIZED (
    SELECT one.id, times FROM found JOIN matched one USING (id)
    JOIN (SELECT same, count(*) AS times FROM matched GROUP BY same) alike USING (same)
), latest AS (
    (SELECT m.id FROM mcp_memories m
     WHERE m.project_id = bmad_project() AND m.agent = $3::text AND NOT EXISTS (SELECT FROM found) {_ELIGIBLE}
     ORDER BY m.created_at DESC LIMIT $7::int)
    UNION
    (SELECT m.id FROM mcp_memories m
     WHERE m.project_id = bmad_project() AND NOT EXISTS (SELECT FROM found) {_ELIGIBLE}
     ORDER BY m.id DESC LIMIT $7::int)
)
SELECT {SHOWN}, m.id = ANY($9) AS is_close, s.score / nullif(best.score, 0) AS score, ARRAY(SELECT unnest(asked.words) EXCEPT
    SELECT hit FROM word_worth) AS unknown, coalesce(cardinality(asked.words), 0) AS asked
FROM (SELECT id, score FROM found UNION ALL SELECT id, 0 FROM latest) s
JOIN mcp_memories m ON m.project_id = bmad_project() AND m.id = s.id
LEFT JOIN evidence ON evidence.id = s.id, asked, best
ORDER BY s.score DESC, m.id DESC
"""

# What an agent begins with: its last session, lessons and decisions of anybody, and what else it kept. Work of others
# is told where it is looked for. The session is looked for among its latest only: it may have none.
_MINE = "FROM mcp_memories m WHERE m.project_id = bmad_project() AND m.agent = $1::text ORDER BY m.created_at DESC"
BEGINNING = f"""
WITH asked AS (SELECT '{{}}'::text[] AS words, '{{}}'::text[] AS names), evidence AS (SELECT 1 AS times), first AS (
    (SELECT o.id, 0 AS place FROM (SELECT m.id, m.category, m.created_at {_MINE} LIMIT 200) o
     WHERE o.category = '{MemoryCategory.AGENT_SESSIONS}' ORDER BY o.created_at DESC LIMIT 1)
    UNION ALL
    SELECT l.id, 1 FROM unnest($3::text[]) c (category) CROSS JOIN LATERAL (
        SELECT m.id FROM mcp_memories m WHERE m.project_id = bmad_project() AND m.category = c.category
        ORDER BY m.created_at DESC LIMIT $2::int) l
    UNION ALL
    SELECT o.id, 2 FROM (SELECT m.id, m.category {_MINE} LIMIT 2 * $2::int) o
    WHERE o.category <> '{MemoryCategory.AGENT_SESSIONS}'
)
SELECT {SHOWN}, false AS is_close, 0 AS score
FROM first JOIN mcp_memories m ON m.project_id = bmad_project() AND m.id = first.id, asked, evidence
ORDER BY first.place, m.agent IS NOT DISTINCT FROM $1::text DESC, m.created_at DESC, m.id DESC
"""

# With encrypted memories the question comes as marks of its words, several for each while keys change.
RECALL_MARKED = RECALL.replace("to_tsvector('english', $1::text)", "$1::text::tsvector").replace(
    f"LIMIT {MOST_WORDS}", f"LIMIT {3 * MOST_WORDS}"
)
# The words of some texts, each as often as the text's number is told.
LEXEMES = """
SELECT t.number, u.lexeme, u.positions
FROM unnest($1::text[]) WITH ORDINALITY t(text, number), unnest(to_tsvector('english', t.text)) u
"""

# The words of the project's memories that a misspelt one may stand for: with the same first letter, about as long.
VOCABULARY = """
SELECT word FROM ts_stat('SELECT search FROM mcp_memories WHERE project_id = bmad_project()')
WHERE left(word, 1) = ANY($1::text[]) AND length(word) BETWEEN $2::int AND $3::int
"""

RELATED = f"""
WITH source AS MATERIALIZED (
    SELECT m.id, m.category, m.search, m.identifiers FROM mcp_memories m
    WHERE m.project_id = bmad_project() AND m.id = $1::uuid
), {_asked("(SELECT search FROM source)", "'{}'::text[]", "coalesce((SELECT identifiers FROM source), '{}')")},
{_rankings("AND m.id <> $1::uuid")}, {_by_meaning("$3", "$4")}, by_category AS (
    SELECT m.id, {CATEGORY_WEIGHT}::float8 AS weight, 1::float8 AS strength,
        row_number() OVER (ORDER BY m.created_at DESC, m.id DESC) AS place
    FROM source JOIN mcp_memories m ON m.category = source.category
    WHERE m.project_id = bmad_project() AND m.id <> $1::uuid
    ORDER BY place LIMIT {PER_RANKING}
), found AS (
    SELECT r.id, {FUSED} / {WORD_WEIGHT + NAME_WEIGHT + CATEGORY_WEIGHT} AS score
    FROM (SELECT * FROM by_words UNION ALL SELECT * FROM by_names UNION ALL SELECT * FROM by_meaning
          UNION ALL SELECT * FROM by_category) r GROUP BY r.id
    ORDER BY score DESC, r.id DESC LIMIT greatest(2 * $2::int, 30)
), evidence AS MATERIALIZED (
    SELECT one.id, times FROM found JOIN matched one USING (id)
    JOIN (SELECT same, count(*) AS times FROM matched GROUP BY same) alike USING (same)
)
SELECT {SHOWN}, m.id = ANY($3) AS is_close, s.score, m.category = source.category AS same_category
FROM found s JOIN mcp_memories m ON m.project_id = bmad_project() AND m.id = s.id
LEFT JOIN evidence ON evidence.id = s.id, asked, source
ORDER BY s.score DESC, m.id DESC
"""
TEXT = "SELECT text FROM mcp_memories WHERE project_id = bmad_project() AND id = $1::uuid"
