"""Where a running cluster listens, in the spelling that each driver wants."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

PORT = 5432
DATABASE = "bmad"
ADMIN_ROLE = "bmad_admin"
OWNER_ROLE = "bmad_owner"
APP_ROLE = "bmad_app"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Address of the private database. The methods with a `role` want `app_role` or `owner_role`.

    The operating system proves who connects (peer authentication), so there is no password anywhere.
    """

    socket_dir: Path
    port: int = PORT
    database: str = DATABASE
    owner_role: str = OWNER_ROLE
    app_role: str = APP_ROLE

    @property
    def socket_file(self) -> Path:
        """The Unix socket itself."""
        return self.socket_dir / f".s.PGSQL.{self.port}"

    def app_connect(self) -> dict[str, Any]:
        """`connect_args` of the role that serves requests."""
        return self.connect_args(self.app_role)

    def owner_connect(self) -> dict[str, Any]:
        """`connect_args` of the role that migrates."""
        return self.connect_args(self.owner_role)

    def connect_args(self, role: str) -> dict[str, Any]:
        """Keyword arguments for `asyncpg.connect` and `asyncpg.create_pool`.

        They name what asyncpg would otherwise take from PG… environment variables meant for another server.
        """
        return {
            "host": str(self.socket_dir),
            "port": self.port,
            "user": role,
            "database": self.database,
            "ssl": False,
            "target_session_attrs": "any",
        }

    def libpq_url(self, role: str) -> str:
        """URL for psql, pg_dump and every libpq client; also a DSN for asyncpg."""
        return f"postgresql://{role}@/{self.database}?{self._query}"

    def sqlalchemy_url(self, role: str) -> str:
        """URL for SQLAlchemy with asyncpg; double each % when it goes through an Alembic ini option."""
        return f"postgresql+asyncpg://{role}@/{self.database}?{self._query}"

    @property
    def _query(self) -> str:
        return f"host={quote(str(self.socket_dir), safe='')}&port={self.port}"
