"""The cluster's three roles and its database: whether they are there, and making them."""

from enum import Enum, auto

from bmad_mcp.embedded.endpoints import ADMIN_ROLE, APP_ROLE, OWNER_ROLE, Endpoints
from bmad_mcp.embedded.session import ServerRefused, Session
from bmad_mcp.errors import Unavailable

# CREATE DATABASE copies a thousand small files, which slow disks take their time for.
PREPARE_SECONDS = 60.0
NO_POWERS = "NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION"


class Answer(Enum):
    """What the cluster says to the app role that knocks."""

    READY = auto()
    STARTING = auto()
    UNPREPARED = auto()
    SILENT = auto()


def ask(endpoints: Endpoints) -> Answer:
    """Log in as the app role and tell how that went; takes milliseconds, or seconds if the server is frozen."""
    try:
        with Session(endpoints.socket_file, endpoints.app_role, endpoints.database):
            return Answer.READY
    except OSError:
        return Answer.SILENT
    except ServerRefused as refused:
        match refused.sqlstate:
            case "57P01" | "57P02" | "57P03":
                return Answer.STARTING
            case "53300":
                # All connections taken is a busy server, not an absent one.
                return Answer.READY
            case "28000" | "3D000":
                return Answer.UNPREPARED
            case _:
                raise Unavailable(f"The embedded PostgreSQL refuses the app role: {refused}.") from refused


def prepare(endpoints: Endpoints) -> None:
    """Make the roles and the database, or finish what an interrupted earlier attempt left half-made."""
    try:
        with Session(endpoints.socket_file, ADMIN_ROLE, "postgres", seconds=PREPARE_SECONDS) as session:
            _make_roles(session)
            if (endpoints.database,) not in session.run("SELECT datname FROM pg_database"):
                session.run(f"CREATE DATABASE {endpoints.database} OWNER {OWNER_ROLE}")
        with Session(endpoints.socket_file, ADMIN_ROLE, endpoints.database, seconds=PREPARE_SECONDS) as session:
            session.run(_grants(endpoints.database))
    except ServerRefused as refused:
        raise Unavailable(
            f"The embedded PostgreSQL at {endpoints.socket_dir} does not let its administrator prepare it: {refused}. "
            "If another operating-system user started it, stop it there or choose another BMAD_DATA_DIR."
        ) from refused


def _make_roles(session: Session) -> None:
    present = {row[0] for row in session.run("SELECT rolname FROM pg_roles")}
    for role in (OWNER_ROLE, APP_ROLE):
        if role not in present:
            session.run(f"CREATE ROLE {role} NOLOGIN {NO_POWERS}")


def _grants(database: str) -> str:
    # LOGIN comes last, so an app role that can log in proves that all before it is done.
    return f"""
        REVOKE ALL ON DATABASE {database} FROM PUBLIC;
        GRANT CONNECT ON DATABASE {database} TO {APP_ROLE};
        ALTER SCHEMA public OWNER TO {OWNER_ROLE};
        GRANT USAGE ON SCHEMA public TO {APP_ROLE};
        ALTER ROLE {OWNER_ROLE} LOGIN {NO_POWERS};
        ALTER ROLE {APP_ROLE} LOGIN {NO_POWERS};
    """
