"""The check of `doctor` that asks the replica how far behind it is."""

from collections.abc import AsyncIterator

from bmad_mcp.commands.finding import Finding
from bmad_mcp.database import Database
from bmad_mcp.identity.verifying import NOWHERE


async def check_replica(database: Database) -> AsyncIterator[Finding]:
    """Whether reads go to the replica of the settings; nothing where they name none."""
    replica = database.replica()
    if replica is None:
        return
    pool = await database.open_pool()
    try:
        begun = await replica.begin(pool, NOWHERE)
        if begun is None:
            mend = "Check BMAD_DATABASE_READ_URL and the replica; the database answers every read meanwhile."
            yield Finding("warn", "Replica", f"not used: {replica.why}", mend)
            return
        transaction, age = begun
        await transaction.end("ROLLBACK")
        yield Finding("ok", "Replica", f"answers analytics, {age.lag_seconds:.1f} s behind")
    finally:
        replica.close()
        await pool.close()
