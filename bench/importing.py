"""`python -m bench.importing`: how long a large project takes to import and to import again, and how much memory."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bmad_mcp.app import open_workspace
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.settings import Settings
from tests.bmad_files.big_project import make_project

MIB = 1024


async def measured(folder: Path) -> dict[str, float]:
    """One import in this process: its seconds, how many steps wrote something, the peak of this process in MiB."""
    settings = Settings(project="big")
    async with open_workspace(settings, lambda _: None) as workspace:
        opened = await workspace.project()
        begun, worked = time.perf_counter(), time.process_time()
        report = await import_folder(opened, folder)
        seconds, busy = time.perf_counter() - begun, time.process_time() - worked
    return {"seconds": seconds, "of_cpu": busy, "changes": report.changes, "peak": peak() / MIB}


def peak() -> int:
    """The most memory that this process has had, in KiB: what its parent had before does not count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def run(folder: Path, env: dict[str, str]) -> dict[str, Any]:
    """The same in a new process."""
    command = [sys.executable, "-m", "bench.importing", "--child", str(folder)]
    found: dict[str, Any] = json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.importing", description=__doc__)
    options.add_argument("--stories", type=int, default=2_000, help="stories of the project (default 2000)")
    options.add_argument("--rounds", type=int, default=3, help="imports again of each kind (default 3)")
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        print(json.dumps(asyncio.run(measured(chosen.child))))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as place:
        env = {**os.environ, "BMAD_DATA_DIR": f"{place}/data", "BMAD_LOG_LEVEL": "error"}
        folder = make_project(Path(place) / "big", chosen.stories)
        empty = Path(place) / "empty"
        empty.mkdir()
        # Makes the database and the project, so that the first row is an import and nothing else.
        run(empty, env)
        show(["", "seconds", "of CPU here", "rows written", "peak MiB"])
        report(f"import of {chosen.stories} stories", run(folder, env))
        for _ in range(chosen.rounds):
            report("again, nothing changed", run(folder, env))
        for count, path in enumerate(sorted(folder.rglob("*.md"))):
            if count % 100 == 0:
                path.write_text(path.read_text() + "- one more line\n")
        report("again, 1 % of the files changed", run(folder, env))


def report(name: str, found: dict[str, Any]) -> None:
    show([name, f"{found['seconds']:.2f}", f"{found['of_cpu']:.2f}", str(found["changes"]), f"{found['peak']:.0f}"])


def show(cells: list[str]) -> None:
    print(f"{cells[0]:<34}" + "".join(f"{one:>14}" for one in cells[1:]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
