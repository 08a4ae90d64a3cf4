"""Rules of the house that a machine can check; each failure says the rule and its reason."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

import bmad_mcp
from bmad_mcp.catalog import CATALOG
from bmad_mcp.errors import BmadError
from bmad_mcp.operation import TOOLSETS

PACKAGE = Path(bmad_mcp.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "_migrations" not in path.parts)
SQL = re.compile(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
WRITES_STATUS = re.compile(r"\bSET\b(?:(?!\bWHERE\b|\bRETURNING\b|\"\"\").)*?\bstatus\s*=\s", re.DOTALL)


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_fits_in_the_head(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 400, (
        f"{path.name} has {lines} lines; split it by subject, so that each file has one reason to exist"
    )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_in_one_sentence_what_it_is_for(path):
    if path.stat().st_size:
        assert ast.get_docstring(ast.parse(path.read_text())), "begin the module with a docstring"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "lifecycles.py"], ids=name_of)
def test_a_status_is_written_by_the_tables_of_lifecycles_only(path):
    found = WRITES_STATUS.search(path.read_text())
    assert not found, f"use LIFECYCLE.set_sql/may_sql: the table must guard every move ({found and found[0][:80]!r})"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_edge_commits(path):
    if path.name in ("db.py", "call.py"):
        return
    assert '"COMMIT"' not in path.read_text() or "bmad_files" in path.parts, (
        "open_call commits; an operation that did would break a caller's transaction in half"
    )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_sql_is_put_together_from_what_a_caller_sent(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant):
            assert not (isinstance(node.left.value, str) and SQL.match(node.left.value)), "pass values as $1, $2, …"


def sql_constants():
    for found in pkgutil.walk_packages([str(PACKAGE)], "bmad_mcp."):
        if found.name.endswith("__main__") or ".embedded" in found.name or ".migrat" in found.name:
            continue
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str) and SQL.match(value) and "mcp" in value:
                yield pytest.param(value, id=f"{found.name.removeprefix('bmad_mcp.')}.{name}")


@pytest.mark.parametrize("statement", list(sql_constants()))
async def test_every_statement_is_accepted_by_the_schema(statement, database):
    connection = await asyncpg.connect(**database.app)
    try:
        await connection.prepare(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("operation", CATALOG, ids=lambda operation: operation.name)
def test_an_operation_describes_itself(operation):
    assert inspect.iscoroutinefunction(operation.run)
    assert operation.name == "health" or re.fullmatch(r"[a-z]+(_[a-z]+)+", operation.name)
    assert len(operation.name) <= 64
    assert operation.toolset is None or operation.toolset in TOOLSETS
    first_line = (inspect.getdoc(operation.run) or "").splitlines()[0]
    assert first_line
    assert len(first_line) <= 100, "the first line is what a model reads while it chooses"
    assert len(operation.description) <= 2000, "hosts cut descriptions at 2 KB"
    assert operation.result.model_json_schema()["type"] == "object"


def test_names_and_routes_are_unique():
    for values in ([one.name for one in CATALOG], [one.route for one in CATALOG]):
        assert len(values) == len(set(values))


def test_every_error_has_a_code_and_a_status():
    def tree(error):
        yield error
        for child in error.__subclasses__():
            yield from tree(child)

    kinds = list(tree(BmadError))
    # A kind without a code of its own is one more case of what it is derived from.
    codes = [kind.code for kind in kinds if "code" in vars(kind)]
    assert len(set(codes)) == len(codes)
    assert all(400 <= kind.http_status < 600 for kind in kinds)


def test_the_stdio_path_imports_nothing_heavy():
    code = (
        "import sys; import bmad_mcp.__main__, bmad_mcp.app, bmad_mcp.server.mcp, bmad_mcp.server.stdio;"
        "print([m for m in ('sqlalchemy', 'alembic', 'yaml', 'rich', 'fastapi', 'pgqueuer', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", "tools/list must be answered before these are loaded"
