"""What has to be the same of a database that was moved: its rows, and facts that are one text each."""

import asyncpg

OURS = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname ~ '^(bmad|mcp)_'
"""
FACTS = {
    "policies": "SELECT string_agg(p::text, E'\\n' ORDER BY tablename, policyname) FROM pg_policies p",
    "walls": "SELECT string_agg(relname || relrowsecurity || relforcerowsecurity, ' ' ORDER BY relname)"
    " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')",
    "owners": "SELECT string_agg(relname || pg_get_userbyid(relowner), ' ' ORDER BY relname) FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace",
    "rights": "SELECT string_agg(table_name || grantee || privilege_type, ' ' ORDER BY table_name, grantee, privilege_type)"
    " FROM information_schema.role_table_grants WHERE table_schema = 'public'",
    "roles": "SELECT string_agg(rolname || rolsuper || rolbypassrls || rolcanlogin || rolcreaterole, ' ' ORDER BY rolname)"
    " FROM pg_roles WHERE rolname LIKE 'bmad%'",
    "types": "SELECT string_agg(enumtypid::regtype || enumlabel, ' ' ORDER BY enumtypid::regtype::text, enumsortorder)"
    " FROM pg_enum",
}


async def hashes(connection: asyncpg.Connection) -> dict[str, str]:
    """Every row of ours that the connection sees, as one hash for each table, with how many there are."""
    tables = [row[0] for row in await connection.fetch(OURS)]
    hashed = "SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM"
    return {table: await connection.fetchval(f"{hashed} {table} t") for table in sorted(tables)}
