"""Tables of access tokens, of the roles that principals have in a project, and of how often they call."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import NOW, Base


class Token(Base):
    """An access token in one of its projects; only the hash of its secret is kept."""

    __tablename__ = "mcp_tokens"
    __table_args__ = (
        CheckConstraint("scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0", name="scope_words"),
        CheckConstraint("octet_length(secret_hash) = 32", name="hash_length"),
        # A request knows the id only.
        Index(None, "id"),
    )

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    secret_hash: Mapped[bytes]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Member(Base):
    """The role of a principal: a token's name, or `ISSUER#SUBJECT` of an identity provider."""

    __tablename__ = "mcp_members"
    __table_args__ = (CheckConstraint("role IN ('viewer', 'member', 'admin')", name="role_word"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    principal: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class RateBucket(Base):
    """How many calls somebody has left, told by when there are all again; of no project, as principals are of several.

    The id is a hash, so the row tells nobody who calls. Unlogged: after a crash every bucket is full.
    """

    __tablename__ = "mcp_rate_buckets"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    full_at: Mapped[datetime]
