"""Operation: a plain async function and where it is reachable; perform() runs one for every surface."""

import asyncio
import hashlib
import inspect
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, get_type_hints

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import from_json, to_json, to_jsonable_python

from bmad_mcp.call import Call, Caller, Workspace, open_call
from bmad_mcp.encryption.columns import RESULT
from bmad_mcp.encryption.vaults import Unreadable, row_of
from bmad_mcp.errors import BmadError, Conflict, Forbidden, Invalid, NoRoom, Overloaded, Unavailable
from bmad_mcp.input_faults import ABOUT_FIELDS, fields_at, in_words, place_of
from bmad_mcp.replica import ReplicaLost
from bmad_mcp.shapes import Aged, unstorable
from bmad_mcp.telemetry.events import CallRecord, recorded_call

logger = logging.getLogger("bmad_mcp.operation")

Toolset = Literal["core", "planning", "quality", "memory", "analytics"]
Scope = Literal["read", "write", "admin"]
TOOLSETS: tuple[Toolset, ...] = ("core", "planning", "quality", "memory", "analytics")

RETRIES = 5
OUTCOME_UNKNOWN = (
    "The connection to the database was lost and the outcome is not known. Read the state, then call again."
)
NO_ANSWER = "The database does not answer. Call again in a few seconds, or run `bmad-mcp doctor`."
IDEMPOTENCY_FIELD = "idempotency_key"


def never(_: Mapping[str, Any]) -> bool:
    """For `Operation.alone`: the statements need their transaction."""
    return False


def always(_: Mapping[str, Any]) -> bool:
    """For `Operation.alone`: the statements need no transaction."""
    return True


@dataclass(frozen=True)
class Operation:
    """A function `(call, **input) -> Out` and where it is reachable.

    `route` is the REST verb and path, `toolset` None keeps it off the tool list, `resource` is its `bmad://` address,
    `markdown` renders the result for that resource (JSON without it), `also` names further REST routes; a query in
    one of them (`GET /agents/active?status=active`) fixes arguments. With `may_be_old` a replica of the database may
    answer; the result is an Aged then. `alone` tells for an input whether its statements need no transaction around
    them: all but one only read without locks, and that one writes the change and its trail.
    """

    run: Callable[..., Awaitable[BaseModel]]
    route: str
    toolset: Toolset | None = "core"
    resource: str | None = None
    markdown: Callable[[Any], str] | None = None
    also: tuple[str, ...] = ()
    may_be_old: bool = False
    alone: Callable[[Mapping[str, Any]], bool] = never

    @property
    def name(self) -> str:
        """The tool's name, the operationId and the name in logs and activity."""
        return self.run.__name__

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ").capitalize()

    @property
    def description(self) -> str:
        """What the operation does, from its docstring, on one line."""
        return " ".join((inspect.getdoc(self.run) or "").split())

    @property
    def verb(self) -> str:
        return self.route.split(" ", 1)[0]

    @property
    def scope(self) -> Scope:
        """`read` for GET, `write` for the rest."""
        return "read" if self.verb == "GET" else "write"

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """The model of the input: unknown arguments are refused, writes also take an idempotency key."""
        hints = get_type_hints(self.run, include_extras=True)
        fields: dict[str, Any] = {
            parameter.name: (
                hints[parameter.name],
                ... if parameter.default is inspect.Parameter.empty else parameter.default,
            )
            for parameter in list(inspect.signature(self.run).parameters.values())[1:]
        }
        if self.scope != "read":
            fields[IDEMPOTENCY_FIELD] = (Annotated[str | None, Field(min_length=1, max_length=200)], None)
        return create_model(f"{self.name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)

    @cached_property
    def result(self) -> type[BaseModel]:
        """The model of the output."""
        model: type[BaseModel] = get_type_hints(self.run)["return"]
        return model

    def check(self, raw: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The input for the function, and the idempotency key; raises Invalid naming each wrong field."""
        if found := unstorable(raw):
            field = found[0].strip(".") or "the arguments"
            raise Invalid(f"`{field}` {found[1]}. Remove it and call {self.name} again.", field=field)
        # Many models send null for what they leave out.
        given = {
            name: value for name, value in raw.items() if value is not None or name not in self.arguments.model_fields
        }
        try:
            checked = self.arguments.model_validate(given)
        except ValidationError as error:
            raise Invalid(self._explain(error), field=place_of(error.errors()[0])) from None
        values = dict(checked.__dict__)
        return values, values.pop(IDEMPOTENCY_FIELD, None)

    def _explain(self, error: ValidationError) -> str:
        faults = error.errors(include_url=False)[:5]
        sentences = (f"`{place_of(fault)}` {in_words(fault, self.arguments)}" for fault in faults)
        inside = next((fault["loc"][:-1] for fault in faults if fault["type"] in ABOUT_FIELDS and fault["loc"][1:]), ())
        what = f"`{'.'.join(map(str, inside))}`" if inside else self.name
        return f"{'; '.join(sentences)}. {what} takes {fields_at(self.arguments, inside) or 'no arguments'}."


async def perform(
    operation: Operation, arguments: Mapping[str, Any], caller: Caller, workspace: Workspace
) -> BaseModel:
    """Check the input, run the operation in one transaction and return its result.

    A transaction that lost a race in the database runs again, at most five times. Every failure is a BmadError;
    an unforeseen one is logged with the call's id and told as Unavailable without its text.
    """
    with recorded_call(operation.name, caller.principal) as record:
        return await _perform(operation, arguments, caller, workspace, record)


async def _perform(
    operation: Operation, arguments: Mapping[str, Any], caller: Caller, workspace: Workspace, record: CallRecord
) -> BaseModel:
    values, key = operation.check(arguments)
    # A remembered result is written in the change's own transaction.
    alone = key is None and operation.alone(values)
    for attempt in range(1, RETRIES + 1):
        call = None
        try:
            may_be_old = operation.may_be_old and attempt == 1
            async with open_call(workspace, caller, operation.name, may_be_old=may_be_old, alone=alone) as call:
                record.id, record.project = call.id, call.project_key
                if key is None:
                    return _aged(await operation.run(call, **values), call)
                return await _once(call, operation, values, key)
        except BmadError:
            raise
        except ReplicaLost:
            continue
        except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
            if attempt == RETRIES:
                raise Conflict(
                    "Many agents changed the same thing at once. Nothing was written; call again."
                ) from error
            if call is not None and call.db.vault is not None:
                # The database also refuses a key in this way that another process retired.
                call.db.vault.forget_freshness()
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
        except TimeoutError as error:
            if _is_unknown(operation, call):
                raise Unavailable(OUTCOME_UNKNOWN) from error
            raise Overloaded(
                "The server is busy: no connection to the database was free, or the database did not answer in time."
                " Nothing was written; call again."
            ) from error
        except (
            OSError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            asyncpg.PostgresConnectionError,
        ) as error:
            unknown = _is_unknown(operation, call)
            lost = OUTCOME_UNKNOWN if unknown else NO_ANSWER
            try:
                is_mended = await workspace.mend()
            except NoRoom as reason:
                raise NoRoom(f"{lost} {reason.message}") from error
            if not unknown and is_mended and attempt < RETRIES:
                continue
            raise Unavailable(lost) from error
        except Exception as error:
            raise _translate(error, operation) from error
    raise AssertionError("unreachable")


def _aged(result: BaseModel, call: Call) -> BaseModel:
    """The result, with its age where a replica answered."""
    if call.age is not None and isinstance(result, Aged):
        result.as_of, result.lag_seconds = call.age.as_of, round(call.age.lag_seconds, 1)
    return result


def _is_unknown(operation: Operation, call: Call | None) -> bool:
    # Once COMMIT is on its way, whether a write was kept is not known here; before it, nothing was.
    return operation.scope != "read" and call is not None and call.db.committing


def _translate(error: Exception, operation: Operation) -> BmadError:
    match error:
        case asyncpg.QueryCanceledError() | asyncpg.LockNotAvailableError() | TimeoutError():
            return Unavailable("The database took too long. Nothing was written; call again in a few seconds.")
        case asyncpg.InsufficientPrivilegeError() | asyncpg.ReadOnlySQLTransactionError():
            return Forbidden("This server may not write to its database. Nothing was written.")
        case asyncpg.TooManyConnectionsError() | asyncpg.CannotConnectNowError() | asyncpg.AdminShutdownError():
            return Unavailable("The database is not ready. Nothing was written; call again in a few seconds.")
        case asyncpg.DiskFullError():
            return NoRoom(
                "The database has no room left. Nothing was written. Stop writing and tell whoever runs this server: calling"
                " again helps once they have freed space on its disk."
            )
        case asyncpg.OutOfMemoryError():
            return Unavailable("The database has no memory left. Nothing was written; call again in a few seconds.")
        case asyncpg.UniqueViolationError():
            return Conflict("Another agent wrote the same key just now. Nothing was written; read it and call again.")
        case asyncpg.ProgramLimitExceededError():
            return Invalid("A text is too long for an index. Nothing was written; shorten titles and paths.")
        case asyncpg.IntegrityConstraintViolationError() | asyncpg.DataError():
            logger.warning("%s: the database refused the values: %s", operation.name, type(error).__name__)
            return Invalid("The database refused a value as out of range. Nothing was written; check the numbers.")
        case _:
            logger.error("%s failed", operation.name, exc_info=error)
            return Unavailable(f"{operation.name} failed inside the server; nothing was written. Its log tells why.")


REMEMBER = """
INSERT INTO mcp_idempotency (project_id, principal, operation, key, request_hash)
VALUES (bmad_project(), $1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING true
"""
REMEMBERED = """
SELECT request_hash, result FROM mcp_idempotency
WHERE project_id = bmad_project() AND principal = $1 AND operation = $2 AND key = $3
"""
KEEP_RESULT = """
UPDATE mcp_idempotency SET result = $4
WHERE project_id = bmad_project() AND principal = $1 AND operation = $2 AND key = $3
"""


async def _once(call: Call, operation: Operation, values: dict[str, Any], key: str) -> BaseModel:
    owner = (call.caller.principal, operation.name, key)
    request_hash = hashlib.sha256(json.dumps(to_jsonable_python(values), sort_keys=True).encode()).hexdigest()
    if await call.db.fetchval(REMEMBER, *owner, request_hash) is None:
        earlier = await call.db.fetchrow(REMEMBERED, *owner)
        if earlier["request_hash"] != request_hash:
            raise Conflict(
                f"`{IDEMPOTENCY_FIELD}` {key!r} was used for {operation.name} with other arguments."
                " Use a new key for a new call.",
                field=IDEMPOTENCY_FIELD,
            )
        return await _first_result(call, operation, earlier["result"], key)
    if call.similar_seconds is not None:
        # Made whatever is there, and found by the next call that has no key.
        call.similar_seconds = 0
    result = await operation.run(call, **values)
    kept: Any = result.model_dump(mode="json", exclude_unset=True)
    if call.db.vault is not None:
        kept = await call.db.seal(RESULT, row_of(*owner), to_json(kept).decode())
    await call.db.execute(KEEP_RESULT, *owner, kept)
    return result


async def _first_result(call: Call, operation: Operation, kept: Any, key: str) -> BaseModel:
    if isinstance(kept, str) and call.db.vault is not None:
        try:
            kept = from_json(
                await call.db.vault.open(call.db, RESULT, row_of(call.caller.principal, operation.name, key), kept)
            )
        except Unreadable:
            raise Unavailable(
                f"{operation.name} was done with this `{IDEMPOTENCY_FIELD}`, and its first answer cannot be decrypted."
                " Read the state instead of calling again."
            ) from None
    return operation.result.model_validate(kept)
