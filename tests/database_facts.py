"""What has to be the same of a database that was moved: its rows, and facts that are one text each."""

import asyncpg

OURS = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname ~ '^(bmad|mcp)_'
"""


def _lines(line: str, source: str) -> str:
    """SQL of one text, with a line for each row."""
    return f"SELECT string_agg(line, E'\\n' ORDER BY line) FROM (SELECT {line} AS line FROM {source}) AS found"


IN_PUBLIC = "relnamespace = 'public'::regnamespace"
FACTS = {
    "policies": _lines("p::text", "pg_policies p"),
    "tables": _lines(
        "concat_ws(' ', relname, relkind, relpersistence, reloptions::text, pg_get_expr(relpartbound, oid))",
        f"pg_class WHERE {IN_PUBLIC}",
    ),
    "columns": _lines(
        "concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,"
        " a.attgenerated, pg_get_expr(d.adbin, d.adrelid))",
        "pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        f" WHERE c.{IN_PUBLIC} AND c.relkind IN ('r', 'p', 'v')",
    ),
    # That a column is NOT NULL is among these from PostgreSQL 18 on, and of the columns in each.
    "constraints": _lines(
        "concat_ws(' ', conrelid::regclass::text, conname, convalidated, pg_get_constraintdef(oid))",
        "pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'",
    ),
    "indexes": _lines(
        "concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisready)",
        f"pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.{IN_PUBLIC}",
    ),
    "triggers": _lines(
        "concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)",
        f"pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND c.{IN_PUBLIC}",
    ),
    "functions": _lines(
        "concat_ws(' ', pg_get_functiondef(oid), pg_get_userbyid(proowner), proacl::text)",
        "pg_proc WHERE pronamespace = 'public'::regnamespace",
    ),
    "sequences": _lines("s::text", "pg_sequences s WHERE schemaname = 'public'"),
    "comments": _lines(
        "concat_ws(' ', relname, objsubid, description)",
        f"pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass WHERE c.{IN_PUBLIC}",
    ),
    "walls": _lines(
        "concat_ws(' ', relname, relrowsecurity, relforcerowsecurity)",
        f"pg_class WHERE {IN_PUBLIC} AND relkind IN ('r', 'p')",
    ),
    "owners": _lines("concat_ws(' ', relname, pg_get_userbyid(relowner))", f"pg_class WHERE {IN_PUBLIC}"),
    "rights": _lines(
        "concat_ws(' ', table_name, grantee, privilege_type)",
        "information_schema.role_table_grants WHERE table_schema = 'public'",
    ),
    "roles": _lines(
        "concat_ws(' ', rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole)",
        "pg_roles WHERE rolname LIKE 'bmad%'",
    ),
    "types": _lines("concat_ws(' ', enumtypid::regtype, to_char(enumsortorder, '000'), enumlabel)", "pg_enum"),
}


async def hashes(connection: asyncpg.Connection) -> dict[str, str]:
    """Every row of ours that the connection sees, as one hash for each table, with how many there are."""
    tables = [row[0] for row in await connection.fetch(OURS)]
    hashed = "SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM"
    return {table: await connection.fetchval(f"{hashed} {table} t") for table in sorted(tables)}


async def facts(connection: asyncpg.Connection) -> dict[str, str]:
    """What each of FACTS says here."""
    return {name: await connection.fetchval(fact) for name, fact in FACTS.items()}
