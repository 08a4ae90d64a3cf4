"""Names of SQL statements for notes and traces: the constant that holds the text, never a value."""

import re
import sys

PACKAGE = "bmad_mcp."
OTHER = "other"
# What frames statements, and what asyncpg says by itself.
_CONTROL = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b")
# Shorter texts are pieces of statements, and many statements begin with the same one.
_SHORTEST = 20
_MOST_COMPOSED = 1024

_constants: dict[str, str] = {}
_composed: dict[str, str] = {}
_modules_read: set[str] = set()


def name_of(sql: str) -> str:
    """Such as `tasks.queries.CLAIM`; `tasks.queries.LIST+` for a text that goes on after a constant's end."""
    if (control := _CONTROL.match(sql)) is not None:
        return control[1]
    name = _constants.get(sql) or _composed.get(sql)
    if name is None:
        _read_new_modules()
        name = _constants.get(sql)
    if name is None:
        name = _begins_with(sql)
        if len(_composed) < _MOST_COMPOSED:
            _composed[sql] = name
    return name


def _begins_with(sql: str) -> str:
    found = max((text for text in _constants if sql.startswith(text)), key=len, default=None)
    return OTHER if found is None else f"{_constants[found]}+"


def _read_new_modules() -> None:
    new = {name for name in sys.modules if name.startswith(PACKAGE)} - _modules_read
    # A constant belongs to the file of queries that it is imported from.
    for module_name in sorted(new, key=lambda name: (not name.endswith("queries"), name)):
        for name, value in list(vars(sys.modules[module_name]).items()):
            if isinstance(value, str) and name.isupper() and not name.startswith("_") and len(value) >= _SHORTEST:
                _constants.setdefault(value, f"{module_name.removeprefix(PACKAGE)}.{name}")
    if new:
        _modules_read.update(new)
        _composed.clear()
