"""What a principal may do: the scopes of its token, cut down to its role in the project and to the operator's bounds."""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from bmad_mcp.call import Caller, Workspace
from bmad_mcp.errors import BmadError, Forbidden
from bmad_mcp.operation import Operation, Scope

Role = Literal["viewer", "member", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
# Each scope contains those before it.
SCOPES: tuple[Scope, ...] = get_args(Scope)
HIGHEST: dict[Role, Scope] = {"viewer": "read", "member": "write", "admin": "admin"}
LEAST_ROLE: dict[Scope, Role] = {scope: role for role, scope in HIGHEST.items()}

# Where an HTTP request carries its Access, in the scope of the connection.
ACCESS = "bmad.access"


@cache
def up_to(scope: Scope) -> frozenset[Scope]:
    """The scope and all that it contains."""
    return frozenset(SCOPES[: SCOPES.index(scope) + 1])


def closed(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """The scopes with all that they contain."""
    return frozenset[Scope]().union(*(up_to(scope) for scope in scopes))


def writes(operation: Operation) -> Forbidden:
    """What a read-only server says to an operation that writes."""
    return Forbidden(f"{operation.name} writes, and this server is read-only.")


class MissingScope(Forbidden):
    """The token lacks scopes that its holder's role would allow; a new token with `scopes` mends it."""

    code = "insufficient_scope"

    def __init__(self, operation: str, scopes: tuple[Scope, ...]) -> None:
        named = " and ".join(scopes)
        super().__init__(f"{operation} needs the scope {named}, which your token lacks. Use a token that has it.")
        self.scopes = scopes


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, in which project, and what that allows; both faces ask `check` before an operation runs."""

    caller: Caller
    workspace: Workspace
    role: Role = "admin"
    scopes: frozenset[Scope] = up_to("admin")
    read_only: bool = False
    # Why nothing may run for now; role and scopes are not looked up then.
    refused: BmadError | None = None

    def check(self, operation: Operation) -> None:
        """Raises MissingScope when another token would do, Forbidden when none would, `refused` before either."""
        if self.refused is not None:
            raise self.refused
        if self.read_only and operation.scope != "read":
            raise writes(operation)
        if operation.scope not in up_to(HIGHEST[self.role]):
            raise Forbidden(
                f"{operation.name} needs the role {LEAST_ROLE[operation.scope]} in this project, and you are"
                f" {self.role}. An admin changes that with"
                f" `bmad-mcp member add PRINCIPAL --role {LEAST_ROLE[operation.scope]} --project KEY`."
            )
        if missing := self.missing(operation.scope):
            raise MissingScope(operation.name, missing)

    def missing(self, scope: Scope) -> tuple[Scope, ...]:
        """The scopes up to this one that the token lacks, lowest first."""
        if scope in self.scopes:
            return ()
        held = closed(self.scopes)
        return tuple(one for one in SCOPES if one in up_to(scope) and one not in held)

    def may(self, operation: Operation) -> bool:
        """Whether `check` would let the operation pass."""
        try:
            self.check(operation)
        except Forbidden:
            return False
        return True
