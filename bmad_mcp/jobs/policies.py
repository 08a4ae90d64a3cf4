"""How long a project keeps its trail, its record of look-ups, remembered results and its archive."""

from collections.abc import Mapping

from bmad_mcp.activity.record import record
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.errors import Invalid
from bmad_mcp.jobs import queries
from bmad_mcp.memory.keeping import call_on
from bmad_mcp.memory.retention import LONGEST_DAYS

# Kind → what it is; the fewest days are what the numbers and a repeated call need.
KINDS = {
    "activity": "the trail of what happened",
    "integrations": "the record of look-ups and deliveries of memories",
    "results": "results that are remembered for idempotency keys",
    "archive": "what retention archived",
}
FEWEST_DAYS = {"activity": 30, "integrations": 30, "results": 1, "archive": 1}
# What has no limit stays for ever.
DEFAULTS = {"results": 30}


async def read_policies(opened: OpenProject, caller: Caller) -> dict[str, int]:
    """The days of each kind that has a limit."""
    async with call_on(opened, caller, "retention") as call:
        return DEFAULTS | _checked(await call.db.fetchval(queries.RETENTION))


async def change_policies(
    opened: OpenProject, caller: Caller, *, limits: Mapping[str, int], cleared: frozenset[str] = frozenset()
) -> dict[str, int]:
    """Set the days of some kinds and take others back to what they are by default; all limits as they are then."""
    for kind, days in limits.items():
        if kind not in KINDS or not FEWEST_DAYS[kind] <= days <= LONGEST_DAYS:
            fewest = ", ".join(f"{name} ({least:,} days or more)" for name, least in FEWEST_DAYS.items())
            raise Invalid(
                f"{kind}={days} is no limit: give one of {fewest}, at most {LONGEST_DAYS:,} days.", field="set"
            )
    async with call_on(opened, caller, "retention") as call:
        before = _checked(await call.db.fetchval(queries.RETENTION))
        after = {kind: days for kind, days in {**before, **limits}.items() if kind not in cleared}
        if after != before:
            await call.db.execute(queries.SET_RETENTION, after)
            named = sorted(kind for kind in before.keys() | after.keys() if before.get(kind) != after.get(kind))
            await record(call, "retention", days={kind: after.get(kind, DEFAULTS.get(kind, 0)) for kind in named})
    return DEFAULTS | after


def _checked(kept: object) -> dict[str, int]:
    """The limits as they are kept; what is none is left out, so that nothing is deleted for it."""
    told = kept if isinstance(kept, Mapping) else {}
    return {
        kind: told[kind]
        for kind, least in FEWEST_DAYS.items()
        if type(told.get(kind)) is int and least <= told[kind] <= LONGEST_DAYS
    }
