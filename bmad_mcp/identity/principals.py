"""Principals: who stands behind a request, whichever way it was proved."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from bmad_mcp.errors import Invalid
from bmad_mcp.operation import Scope

# No space and no `#`: the name of a token cannot be taken for a subject of an identity provider.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# What an identity provider may call somebody; a space would split what is written beside it.
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
RESERVED = frozenset({"local"})


@dataclass(frozen=True, slots=True)
class Principal:
    """A proved identity: its name, its token's scopes, and the projects the token is bound to (None: wherever a member).

    `known_as` is how the rows of these projects name it, which in an encrypted one is a pseudonym.
    """

    name: str
    scopes: frozenset[Scope]
    projects: frozenset[UUID] | None = None
    known_as: Mapping[UUID, str] = field(default_factory=dict, compare=False)

    @property
    def counted_as(self) -> str:
        """Whose calls are counted together: projects name their tokens as they like, so a name alone is not enough."""
        return " ".join([self.name, *sorted(str(one) for one in self.projects or ())])


def token_name(name: str) -> str:
    """The name, if a token may carry it; raises Invalid."""
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise Invalid(
            "NAME is who uses the token: 1 to 64 letters, digits, dots, hyphens, underscores and @, beginning with a"
            " letter or digit, and not `local`.",
            field="name",
        )
    return name


def subject_principal(issuer: str, subject: object) -> str | None:
    """The principal of an identity provider's subject: `ISSUER#SUBJECT`; None for a subject that cannot be one."""
    # An issuer has no fragment, so the first # ends it.
    return f"{issuer}#{subject}" if isinstance(subject, str) and _SUBJECT.fullmatch(subject) else None


def member_name(principal: str) -> str:
    """The principal, if it may be a member; raises Invalid."""
    issuer, hash_sign, subject = principal.partition("#")
    if hash_sign and re.fullmatch(r"https?://[\x21-\x7e]{1,500}", issuer) and _SUBJECT.fullmatch(subject):
        return principal
    if not _NAME.fullmatch(principal) or principal in RESERVED:
        raise Invalid(
            "PRINCIPAL is a token's name, or ISSUER#SUBJECT of your identity provider, such as"
            " 'https://id.example.com#248289'. A refused request is told its principal.",
            field="principal",
        )
    return principal
