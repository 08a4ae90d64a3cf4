"""Where the Alembic migrations are: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = _PACKAGE / "_migrations"

MIGRATIONS = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent / "migrations"


def newest_revision() -> str:
    """The newest revision on disk, from its file name: importing Alembic costs more than the whole check."""
    names = sorted(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    return names[-1].split("_", 1)[0] if names else ""
