"""Runs the command line as people do: a process of its own, its exit code, and what it printed."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Tests say what they set; what the developer has set is nobody's business here.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("BMAD_")}
NO_DATABASE = {"BMAD_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}


def bmad(
    env: Mapping[str, str], *arguments: str, cwd: Path | None = None, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """The finished command."""
    return subprocess.run(
        [sys.executable, "-m", "bmad_mcp", *arguments],
        env={**CLEAN, **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )


def succeeds(env: Mapping[str, str], *arguments: str, **more) -> str:
    """What a command that has to succeed printed on stdout."""
    done = bmad(env, *arguments, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(env: Mapping[str, str], *arguments: str, code: int = 1, **more) -> str:
    """The sentence of a command that has to fail."""
    done = bmad(env, *arguments, **more)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr
