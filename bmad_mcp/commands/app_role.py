"""The role that the server works as in an external database: made where it may be, and granted to who connects."""

import asyncpg

from bmad_mcp.embedded.endpoints import APP_ROLE
from bmad_mcp.errors import Conflict, Forbidden

WHO = "SELECT current_user AS name, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
FOUND = "SELECT rolsuper OR rolbypassrls AS is_unbound FROM pg_roles WHERE rolname = $1"
# What a login through a pooler needs, where no session can become another role.
HAS_RIGHTS_OF = "SELECT pg_has_role($1::name, $2::name, 'USAGE')"
# Before PostgreSQL 16 every member may become the role, and the word SET is unknown.
MAY_BECOME = """
SELECT pg_has_role($1::name, $2::name, CASE WHEN current_setting('server_version_num')::int >= 160000
                                            THEN 'SET' ELSE 'MEMBER' END)
"""


async def ensure_app_role(connection: asyncpg.Connection, *others: str) -> str:
    """Make the app role if it is missing, and let this role become it; returns what was done.

    `others` connect through a pooler: they get the app role's rights without becoming it.

    Without the right to make roles the owner itself is bound by row-level security, and that is enough. Raises
    Forbidden when nothing would bind the server, Conflict when the role that exists has too many rights.
    """
    who = await connection.fetchrow(WHO)
    found = await connection.fetchrow(FOUND, APP_ROLE)
    if found is not None and found["is_unbound"]:
        raise Conflict(
            f"The role {APP_ROLE} is a superuser or has BYPASSRLS, so row-level security would not bind the server."
            f" Take that away: ALTER ROLE {APP_ROLE} NOSUPERUSER NOBYPASSRLS."
        )
    if found is None and not (who["rolsuper"] or who["rolcreaterole"]):
        if who["rolbypassrls"]:
            raise Forbidden(
                f"{who['name']} has BYPASSRLS and may not create the role {APP_ROLE}. Ask your administrator for:"
                f" CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO {_quoted(who['name'])};"
            )
        return f"{who['name']} may not create roles, so the server works as {who['name']}; row-level security binds it."
    done = []
    if found is None:
        try:
            await connection.execute(f"CREATE ROLE {APP_ROLE} NOLOGIN")
            done.append(f"made the role {APP_ROLE}")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            # Another upgrade of the same cluster was faster.
            done.append(f"found the role {APP_ROLE}")
    for name in dict.fromkeys((who["name"], *others)):
        enough = MAY_BECOME if name == who["name"] else HAS_RIGHTS_OF
        if name == APP_ROLE or await connection.fetchval(enough, name, APP_ROLE):
            continue
        try:
            await connection.execute(f"GRANT {APP_ROLE} TO {_quoted(name)}")
        except asyncpg.InsufficientPrivilegeError:
            if who["rolbypassrls"]:
                raise Forbidden(
                    f"{who['name']} may not become {APP_ROLE}. Ask your administrator for:"
                    f" GRANT {APP_ROLE} TO {_quoted(name)};"
                ) from None
            return f"{name} may not become {APP_ROLE}, so the server works as {name}; row-level security binds it."
        if not await connection.fetchval(enough, name, APP_ROLE):
            raise Conflict(
                f"{name} is NOINHERIT: through a pooler it would have none of the rights of {APP_ROLE}. Ask your"
                f" administrator for: ALTER ROLE {_quoted(name)} INHERIT; REVOKE {APP_ROLE} FROM {_quoted(name)};"
                " then run `bmad-mcp db upgrade` again."
            )
        done.append(f"let {name} become {APP_ROLE}")
    return (
        f"{', '.join(done).capitalize()}."
        if done
        else f"The role {APP_ROLE} is there, and {who['name']} may become it."
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
