"""What has to be the same of a database that was moved, beside its rows: each fact is one text."""

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
