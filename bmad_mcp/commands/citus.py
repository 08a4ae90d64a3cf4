"""What distributes the schema over Citus: the statements, made of the tables that there are, once they keep its rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import asyncpg

from bmad_mcp.errors import Conflict

BY = "project_id"
# Looked up by its key before the project is known, and referred to by every other table: a copy on every node.
REFERENCE = ("bmad_projects",)
# Rows of no project, with numbers from sequences: they stay on the coordinator.
LOCAL = r"^(bmad_alembic_version$|mcp_pgqueuer|mcp_rate_buckets$)"

TABLES = """
SELECT c.relname AS name, c.relkind = 'p' AS is_partitioned, c.relname ~ $1 AS is_local,
    (SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
    ARRAY(SELECT a.attname FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%')) AS serials,
    EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) AS has_trigger
FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition AND c.relname ~ '^(bmad|mcp)_' ORDER BY c.relname
"""
KEYS = """
SELECT t.relname AS table_name, i.relname AS name,
    ARRAY(SELECT a.attname FROM unnest(x.indkey::int2[]) WITH ORDINALITY k (number, place)
          LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number AND k.number > 0
          WHERE k.place <= x.indnkeyatts ORDER BY k.place) AS columns
FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indisunique AND t.relnamespace = current_schema()::regnamespace AND NOT t.relispartition
"""
FOREIGN_KEYS = """
SELECT t.relname AS table_name, o.conname AS name, f.relname AS target,
    ARRAY(SELECT a.attname FROM unnest(o.conkey) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.number ORDER BY k.place) AS columns,
    ARRAY(SELECT a.attname FROM unnest(o.confkey) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.number ORDER BY k.place) AS target_columns,
    o.confdeltype IN ('n', 'd') AND (o.confdelsetcols IS NULL
        OR (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = o.conrelid AND a.attname = 'project_id')
            = ANY (o.confdelsetcols)) AS clears_project
FROM pg_constraint o JOIN pg_class t ON t.oid = o.conrelid JOIN pg_class f ON f.oid = o.confrelid
WHERE o.contype = 'f' AND t.relnamespace = current_schema()::regnamespace AND NOT t.relispartition
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables that are ours, and their unique and foreign keys, as the catalogue of the database has them."""

    tables: list[Any]
    keys: list[Any]
    foreign_keys: list[Any]

    @property
    def distributed(self) -> list[Any]:
        """The tables whose rows belong to a project."""
        return [one for one in self.tables if not one["is_local"] and one["name"] not in REFERENCE]


async def read_schema(connection: asyncpg.Connection) -> Schema:
    """What is there."""
    tables = await connection.fetch(TABLES, LOCAL)
    names = {one["name"] for one in tables}
    keys = [one for one in await connection.fetch(KEYS) if one["table_name"] in names]
    foreign_keys = [one for one in await connection.fetch(FOREIGN_KEYS) if one["table_name"] in names]
    return Schema(tables, keys, foreign_keys)


def broken_rules(schema: Schema) -> Iterator[str]:
    """What Citus would refuse to distribute by project, as sentences."""
    distributed = {one["name"] for one in schema.distributed}
    for table in schema.distributed:
        if BY not in table["columns"]:
            yield f"{table['name']} has no column {BY}."
        for column in table["serials"]:
            yield f"{table['name']}.{column} takes its values from a sequence."
        if not any(key["table_name"] == table["name"] for key in schema.keys):
            yield f"{table['name']} has no primary key."
    for key in schema.keys:
        if key["table_name"] in distributed and key["columns"][:1] != [BY]:
            yield f"The unique key {key['name']} of {key['table_name']} does not begin with {BY}."
    for key in schema.foreign_keys:
        name = f"The foreign key {key['name']} of {key['table_name']}"
        is_distributed = key["table_name"] in distributed
        if is_distributed and key["columns"][:1] != [BY]:
            yield f"{name} does not begin with {BY}."
        if is_distributed and key["target"] in distributed and key["target_columns"][:1] != [BY]:
            yield f"{name} does not lead to a row of the same project."
        if is_distributed and key["target"] not in distributed and key["target"] not in REFERENCE:
            yield f"{name} leads to {key['target']}, which stays on the coordinator."
        if not is_distributed and key["target"] in distributed:
            yield f"{name} leads from a table of no project to {key['target']}."
        if is_distributed and key["clears_project"]:
            yield f"{name} would set {BY} to null."


def statements(schema: Schema) -> Iterator[str]:
    """The DDL, for a new coordinator right after `db upgrade`; raises Conflict when the tables break a rule."""
    if broken := list(broken_rules(schema)):
        raise Conflict(f"The schema cannot be distributed by project: {' '.join(broken)}")
    yield "-- For an empty schema on a Citus coordinator, after `bmad-mcp db upgrade`, as the schema's owner."
    yield "BEGIN;"
    if any(table["has_trigger"] for table in schema.distributed):
        yield "-- Triggers read and write rows of the same project only; the trail's refuses changes."
        yield "SET LOCAL citus.enable_unsafe_triggers = on;"
    for name in REFERENCE:
        yield f"SELECT create_reference_table('{name}');"
    first = ""
    for name in _referred_to_first(schema):
        beside = f", colocate_with => '{first}'" if first else ""
        yield f"SELECT create_distributed_table('{name}', '{BY}'{beside});"
        first = first or name
    yield "COMMIT;"
    local = ", ".join(one["name"] for one in schema.tables if one["is_local"])
    yield f"-- On the coordinator stay: {local}."


def _referred_to_first(schema: Schema) -> list[str]:
    """The distributed tables, each after those that its foreign keys lead to; raises Conflict for a circle."""
    order = TopologicalSorter({one["name"]: set[str]() for one in schema.distributed})
    for key in schema.foreign_keys:
        if key["target"] not in (key["table_name"], *REFERENCE):
            order.add(key["table_name"], key["target"])
    try:
        return list(order.static_order())
    except CycleError as error:
        raise Conflict(f"The foreign keys of these tables make a circle: {', '.join(error.args[1])}.") from error
