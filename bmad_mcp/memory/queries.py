"""SQL of the built-in memory: two rankings by what matched, fused by rank, in one statement."""

# Reciprocal rank fusion: an item counts weight / (60 + its place in a ranking). A name that matches is stronger
# evidence than a word. What follows only nudges: age ±10 %, confidence ±5 %, the asker's own +5 %.
K = 60
PER_RANKING = 60
WORD_WEIGHT, NAME_WEIGHT, CATEGORY_WEIGHT = 1.0, 1.5, 0.25
MOST_WORDS = 40

STORE = """
INSERT INTO mcp_memories (project_id, id, text, category, agent, author_kind, principal, confidence, identifiers)
VALUES (bmad_project(), $1, $2, $3, $4, $5, $6, $7, $8::text[])
"""
FORGET = "DELETE FROM mcp_memories WHERE project_id = bmad_project() AND id = ANY($1::uuid[])"
COUNT = "SELECT count(*) FROM mcp_memories WHERE project_id = bmad_project()"

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
AUTHOR = """
SELECT (SELECT a.name FROM bmad_agents a
        WHERE a.project_id = bmad_project() AND (a.name = $1::text OR $1::text = ANY(a.aliases))
        ORDER BY a.name <> $1::text, a.name LIMIT 1) AS named,
    (SELECT a.name FROM bmad_agent_sessions s
     JOIN bmad_agents a ON a.project_id = s.project_id AND a.id = s.agent_id
     WHERE s.project_id = bmad_project() AND s.caller = $2::text AND s.ended_at IS NULL
     ORDER BY s.started_at DESC, s.id DESC LIMIT 1) AS in_session,
    (SELECT string_agg(a.name, ', ' ORDER BY a.name) FROM bmad_agents a
     WHERE a.project_id = bmad_project()) AS known
"""

# The lexemes of a tsvector, joined by OR: a natural question asked with AND finds nothing.
ANY_OF = r"""string_agg('''' || replace(replace(l.lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery"""


def _lexemes(vector: str) -> str:
    """The words that tell most of a tsvector: the most used ones, then the longest."""
    return f"""
    SELECT array_agg(l.lexeme) AS words, {ANY_OF} AS query
    FROM (SELECT u.lexeme FROM unnest({vector}) u
          ORDER BY cardinality(u.positions) DESC NULLS LAST, length(u.lexeme) DESC, u.lexeme LIMIT {MOST_WORDS}) l"""


def _rankings(eligible: str) -> str:
    """One pass over the project's memories, then a ranking for each way to match."""
    # One pass, as row security keeps `@@` and `&&` (which are not leakproof) from using an index.
    return f"""
matched AS MATERIALIZED (
    SELECT m.id, CASE WHEN m.search @@ asked.query THEN ts_rank(m.search, asked.query, 1) END AS rank,
        CASE WHEN m.identifiers && asked.names
            THEN cardinality(ARRAY(SELECT unnest(m.identifiers) INTERSECT SELECT unnest(asked.names))) END AS shared
    FROM (SELECT * FROM asked WHERE query IS NOT NULL OR names <> '{{}}') asked
    JOIN mcp_memories m ON m.search @@ asked.query OR m.identifiers && asked.names
    WHERE m.project_id = bmad_project() {eligible}
), by_words AS (
    SELECT id, {WORD_WEIGHT}::float8 AS weight, row_number() OVER (ORDER BY rank DESC, id DESC) AS place
    FROM matched WHERE rank IS NOT NULL ORDER BY place LIMIT {PER_RANKING}
), by_names AS (
    SELECT id, {NAME_WEIGHT}::float8 AS weight, row_number() OVER (ORDER BY shared DESC, id DESC) AS place
    FROM matched WHERE shared IS NOT NULL ORDER BY place LIMIT {PER_RANKING}
)"""


MATCHED = """
    ARRAY(SELECT u.lexeme FROM unnest(m.search) u WHERE u.lexeme = ANY(asked.words)
          ORDER BY u.positions[1] LIMIT 6) AS words,
    ARRAY(SELECT unnest(m.identifiers) INTERSECT SELECT unnest(asked.names) ORDER BY 1 LIMIT 6) AS names
"""
NUDGES = """(0.9 + 0.2 * exp(-extract(epoch FROM now() - m.created_at)::float8 / 2592000))
        * (0.95 + 0.1 * m.confidence)"""

_ELIGIBLE = """AND ($4::text IS NULL OR m.category = $4::text) AND ($5::text IS NULL OR m.agent = $5::text)
      AND ($6::timestamptz IS NULL OR m.created_at >= $6::timestamptz)"""

# When nothing matches, the latest are better than nothing: they come with the score 0.
RECALL = f"""
WITH asked AS MATERIALIZED (
    SELECT l.words, l.query, $2::text[] AS names FROM ({_lexemes("to_tsvector('english', $1::text)")}) l
), {_rankings(_ELIGIBLE)}, best AS (
    SELECT ({WORD_WEIGHT}::float8 * (asked.query IS NOT NULL)::int
        + {NAME_WEIGHT}::float8 * (asked.names <> '{{}}')::int) / ({K} + 1) AS score
    FROM asked
), found AS (
    SELECT r.id, sum(r.weight / ({K} + r.place)) AS fused
    FROM (SELECT * FROM by_words UNION ALL SELECT * FROM by_names) r GROUP BY r.id
), latest AS (
    (SELECT m.id FROM mcp_memories m
     WHERE m.project_id = bmad_project() AND m.agent = $3::text AND NOT EXISTS (SELECT FROM found) {_ELIGIBLE}
     ORDER BY m.created_at DESC LIMIT $7::int)
    UNION
    (SELECT m.id FROM mcp_memories m
     WHERE m.project_id = bmad_project() AND NOT EXISTS (SELECT FROM found) {_ELIGIBLE}
     ORDER BY m.id DESC LIMIT $7::int)
), scored AS (
    SELECT r.id, r.fused / nullif(best.score, 0) * {NUDGES}
        * CASE WHEN m.agent = $3::text THEN 1.05 ELSE 1 END AS score
    FROM (SELECT * FROM found UNION ALL SELECT id, 0 FROM latest) r
    JOIN mcp_memories m ON m.project_id = bmad_project() AND m.id = r.id, best
)
SELECT m.id, m.text, m.category, date_trunc('second', m.created_at) AS created_at, m.confidence, m.agent, m.author_kind,
    least(1, coalesce(s.score, 0)) AS score, {MATCHED}
FROM scored s JOIN mcp_memories m ON m.project_id = bmad_project() AND m.id = s.id, asked
ORDER BY coalesce(s.score, 0) DESC, (m.agent IS NOT DISTINCT FROM $3::text) DESC, m.created_at DESC, m.id DESC
LIMIT $7::int
"""

RELATED = f"""
WITH source AS MATERIALIZED (
    SELECT m.id, m.category, m.search, m.identifiers FROM mcp_memories m
    WHERE m.project_id = bmad_project() AND m.id = $1::uuid
), asked AS MATERIALIZED (
    SELECT l.words, l.query, coalesce((SELECT identifiers FROM source), '{{}}') AS names,
        (SELECT category FROM source) AS category
    FROM ({_lexemes("(SELECT search FROM source)")}) l
), {_rankings("AND m.id <> $1::uuid")}, by_category AS (
    SELECT m.id, {CATEGORY_WEIGHT}::float8 AS weight, row_number() OVER (ORDER BY m.created_at DESC, m.id DESC) AS place
    FROM asked JOIN mcp_memories m ON m.category = asked.category
    WHERE m.project_id = bmad_project() AND m.id <> $1::uuid
    ORDER BY place LIMIT {PER_RANKING}
), found AS (
    SELECT r.id, sum(r.weight / ({K} + r.place)) AS fused
    FROM (SELECT * FROM by_words UNION ALL SELECT * FROM by_names UNION ALL SELECT * FROM by_category) r GROUP BY r.id
), scored AS (
    SELECT f.id, f.fused * ({K} + 1) / {WORD_WEIGHT + NAME_WEIGHT + CATEGORY_WEIGHT} * {NUDGES} AS score
    FROM found f JOIN mcp_memories m ON m.project_id = bmad_project() AND m.id = f.id
)
SELECT m.id, m.text, m.category, date_trunc('second', m.created_at) AS created_at, m.confidence, m.agent, m.author_kind,
    least(1, s.score) AS score, {MATCHED}, m.category = asked.category AS same_category
FROM scored s JOIN mcp_memories m ON m.project_id = bmad_project() AND m.id = s.id, asked
ORDER BY s.score DESC, m.created_at DESC, m.id DESC
LIMIT $2::int
"""
EXISTS = "SELECT EXISTS (SELECT FROM mcp_memories WHERE project_id = bmad_project() AND id = $1::uuid)"
