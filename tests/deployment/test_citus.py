"""The schema keeps the rules of Citus: every key is led by project_id, and the statements name every table."""

import re

import asyncpg
import pytest
from commands.command import succeeds
from processes import fresh_key

import bmad_mcp.tables  # noqa: F401
from bmad_mcp.commands.citus import broken_rules, read_schema, statements
from bmad_mcp.errors import Conflict
from bmad_mcp.schema import Base, InProject


@pytest.fixture
async def owner(database):
    """The owner in a transaction that is rolled back."""
    connection = await asyncpg.connect(**database.owner)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def test_the_schema_keeps_every_rule(owner):
    schema = await read_schema(owner)
    assert list(broken_rules(schema)) == []
    # The rules were asked of every key that there is, and not of none.
    distributed = {one["name"] for one in schema.distributed}
    assert {one.__tablename__ for one in InProject.__subclasses__() if hasattr(one, "__tablename__")} <= distributed
    assert {table.name for table in Base.metadata.tables.values()} - distributed == {
        "bmad_projects",
        "mcp_rate_buckets",
    }
    assert {key["table_name"] for key in schema.keys} >= distributed
    assert len(schema.foreign_keys) > 20
    assert [one["name"] for one in schema.tables if one["is_partitioned"]] == ["bmad_agent_activity"]


async def test_every_table_of_projects_is_distributed_after_what_it_refers_to(owner):
    schema = await read_schema(owner)
    told = list(statements(schema))
    placed = re.findall(r"create_distributed_table\('(\w+)', 'project_id'", "\n".join(told))
    assert sorted(placed) == sorted(one["name"] for one in schema.distributed)
    for key in schema.foreign_keys:
        if key["target"] != "bmad_projects":
            assert placed.index(key["target"]) <= placed.index(key["table_name"]), key["name"]
    assert all(
        "colocate_with" in line for line in told if "create_distributed_table" in line and placed[0] not in line[:60]
    )
    assert told.index("SELECT create_reference_table('bmad_projects');") < told.index(
        next(line for line in told if "create_distributed_table" in line)
    )


@pytest.mark.parametrize(
    "ddl, sentence",
    [
        ("CREATE TABLE mcp_new (id uuid PRIMARY KEY, project_id uuid)", "unique key mcp_new_pkey of mcp_new does not begin"),
        ("CREATE TABLE mcp_new (id uuid PRIMARY KEY)", "mcp_new has no column project_id"),
        ("CREATE TABLE mcp_new (project_id uuid, id bigserial, PRIMARY KEY (project_id, id))", "mcp_new.id takes its values"),
        ("CREATE UNIQUE INDEX wrong ON bmad_tasks (number)", "unique key wrong of bmad_tasks"),
        ("CREATE UNIQUE INDEX wrong ON bmad_tasks ((lower(title)))", "unique key wrong of bmad_tasks"),
        ("CREATE TABLE mcp_new (project_id uuid, id uuid)", "mcp_new has no primary key"),
        (
            "CREATE TABLE mcp_new (project_id uuid, id uuid, task uuid, PRIMARY KEY (project_id, id),"
            " CONSTRAINT wrong FOREIGN KEY (project_id, task) REFERENCES bmad_tasks (project_id, id) ON DELETE SET NULL)",
            "foreign key wrong of mcp_new would set project_id to null",
        ),
        (
            "CREATE TABLE mcp_new (project_id uuid, id uuid, job bigint REFERENCES mcp_pgqueuer, PRIMARY KEY (project_id, id))",
            "mcp_pgqueuer, which stays on the coordinator",
        ),
    ],
)  # fmt: skip
async def test_what_breaks_a_rule_is_found(owner, ddl, sentence):
    # Rolled back; a unique index could not be made of what other tests left.
    await owner.execute("TRUNCATE bmad_tasks CASCADE")
    await owner.execute(ddl)
    with pytest.raises(Conflict, match=re.escape(sentence)):
        list(statements(await read_schema(owner)))


def test_the_command_prints_them(server_env):
    told = succeeds(server_env, "db", "citus", "--project", fresh_key("citus"))
    assert told.splitlines()[1] == "BEGIN;"
    assert "SELECT create_distributed_table('bmad_tasks', 'project_id', colocate_with" in told
