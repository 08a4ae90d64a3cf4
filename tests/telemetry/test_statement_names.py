"""Names of statements: those of their constants, and a bounded number of them."""

from bmad_mcp.activity import queries
from bmad_mcp.database import APP_ROLE
from bmad_mcp.tasks import queries as tasks
from bmad_mcp.telemetry import statement_names
from bmad_mcp.telemetry.statement_names import OTHER, name_of


def constants(module):
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


def test_a_statement_is_named_by_the_constant_that_holds_it():
    assert name_of(queries.LIST) == "activity.queries.LIST"
    assert name_of(APP_ROLE) == "database.APP_ROLE"
    for name, value in constants(tasks).items():
        if value.lstrip().startswith(("WITH", "SELECT", "INSERT", "UPDATE", "DELETE")) and not name.startswith("_"):
            assert name_of(value).startswith("tasks.queries."), name


def test_a_statement_that_goes_on_is_named_by_its_beginning():
    assert name_of(f"{queries.LIST} AND a.id < $1 LIMIT 5") == "activity.queries.LIST+"


def test_what_frames_statements_is_named_by_its_word():
    assert name_of("BEGIN; SELECT set_config('app.project', 'x', true)") == "BEGIN"
    assert name_of("COMMIT") == "COMMIT"
    assert name_of("ROLLBACK") == "ROLLBACK"


def test_unknown_texts_get_one_name_and_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(statement_names, "_MOST_COMPOSED", 50)
    statement_names._composed.clear()
    assert {name_of(f"SELECT {number} AS of_somebody_else") for number in range(150)} == {OTHER}
    assert len(statement_names._composed) == 50
