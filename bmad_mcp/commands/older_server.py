"""A restore into a server older than the programs: their script, without what only newer servers know."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from bmad_mcp.uuid7_function import BUILT_IN, FIRST_MAJOR, PUT_TOGETHER

SETTING = re.compile(rb"SET (\w+) = .*;\s*")
OBJECTS = (b"CREATE ", b"ALTER ")
ROWS = b"COPY "
KEY_FUNCTION = f"    RETURN {BUILT_IN};\n".encode()


@dataclass(frozen=True, slots=True)
class OlderServer:
    """What the server knows: its major version, and the names of its settings."""

    major: int
    settings: Collection[str]


@dataclass(frozen=True, slots=True)
class Failure:
    """The program that failed, and its own words."""

    program: str
    words: str


def play_script(
    writing: Sequence[str], playing: Sequence[str], env: Mapping[str, str], server: OlderServer
) -> Failure | None:
    """Let `playing` (psql) run in one transaction what `writing` (pg_restore) prints, as the server understands it."""
    with tempfile.TemporaryFile() as written_errors, tempfile.TemporaryFile() as played_errors:
        with (
            subprocess.Popen(
                writing, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=written_errors
            ) as writer,
            subprocess.Popen(
                playing, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=played_errors
            ) as player,
        ):
            assert writer.stdout is not None
            assert player.stdin is not None
            try:
                player.stdin.write(b"BEGIN;\n")
                player.stdin.writelines(_schema(writer.stdout, server))
                shutil.copyfileobj(writer.stdout, player.stdin)
                # Without this line nothing stays: a script that was cut off must not be kept.
                if writer.wait() == 0:
                    player.stdin.write(b"COMMIT;\n")
                player.stdin.close()
            except BrokenPipeError:
                writer.terminate()
                with suppress(BrokenPipeError):
                    player.stdin.close()
        # psql also fails at what a failed pg_restore leaves out; who was ended because of psql has a negative code.
        if writer.returncode > 0 or (writer.returncode and not player.returncode):
            return Failure("pg_restore", _words(written_errors))
        return Failure("psql", _words(played_errors)) if player.returncode else None


def _schema(script: Iterable[bytes], server: OlderServer) -> Iterator[bytes]:
    """The lines up to the first rows; only before the first object a line that looks like a setting is one."""
    has_objects = False
    for line in script:
        has_objects = has_objects or line.startswith(OBJECTS)
        setting = None if has_objects else SETTING.fullmatch(line)
        if line == KEY_FUNCTION and server.major < FIRST_MAJOR:
            yield f"    RETURN {PUT_TOGETHER};\n".encode()
        elif setting is None or setting[1].decode() in server.settings:
            yield line
        if line.startswith(ROWS):
            return


def _words(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode(errors="replace")
