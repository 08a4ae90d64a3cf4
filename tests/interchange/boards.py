"""Boards of other tools: made by the real tools and kept, or written here in their documented form."""

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from bmad_installs import CACHE

TASK_MASTER = "0.43.1"
BACKLOG = "1.52.0"
BEADS = "1.3.0"
DAY = 86_400
# Installing these tools takes minutes, so what they make is kept here.
KEPT = Path(__file__).parents[1] / "data/boards"


def real_taskmaster(folder: Path) -> Path:
    """A copy of a project that the real Task Master made."""
    return shutil.copytree(KEPT / "taskmaster", folder, dirs_exist_ok=True)


def real_backlog(folder: Path) -> Path:
    """A copy of a project that the real Backlog.md made."""
    return shutil.copytree(KEPT / "backlog", folder, dirs_exist_ok=True)


def real_beads(folder: Path) -> Path:
    """A copy of a project that the real bd made; its package downloads a program, which may not be possible."""
    return _copied("beads", f"@beads/bd@{BEADS}", _make_beads, folder)


def made_anew(name: str, folder: Path) -> Path:
    """What the real tool makes of the calls that the kept board was made by; skips the test where npm is missing."""
    package, make = {
        "taskmaster": (f"task-master-ai@{TASK_MASTER}", _make_taskmaster),
        "backlog": (f"backlog.md@{BACKLOG}", _make_backlog),
    }[name]
    return _copied(name, package, make, folder)


Call = Callable[..., None]


def _copied(name: str, package: str, make: Callable[[Path, Path], None], folder: Path) -> Path:
    made = CACHE / f"board-{name}-{package.rpartition('@')[2]}"
    refused = CACHE / f"{made.name}.refused"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"board-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if refused.exists() and time.time() - refused.stat().st_mtime < DAY:
            pytest.skip(refused.read_text())
        if not made.exists():
            if shutil.which("npm") is None or shutil.which("node") is None:
                pytest.skip(f"npm and node are needed to make a real board with {package}")
            work = CACHE / f"work-board-{name}"
            shutil.rmtree(work, ignore_errors=True)
            (work / "project").mkdir(parents=True)
            (work / "home").mkdir()
            (work / "package.json").write_text('{"name": "board", "private": true}')
            npm = ["npm", "install", "--no-audit", "--no-fund", "--silent", package]
            done = subprocess.run(npm, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode:
                reason = f"npm could not install {package}, so there is no real board: {done.stderr[-300:]}"
                # Not tried again on every run of a day.
                refused.write_text(reason)
                shutil.rmtree(work, ignore_errors=True)
                pytest.skip(reason)
            make(work, work / "project")
            (work / "project").rename(made)
            shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


def _caller(work: Path, project: Path, program: Path) -> Call:
    env = {**os.environ, "HOME": str(work / "home"), "CI": "1"}

    def call(*arguments: str) -> None:
        done = subprocess.run(
            [str(program), *arguments], cwd=project, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"{program.name} {arguments[0]} failed: {done.stderr[-300:] or done.stdout[-300:]}")

    return call


def _make_taskmaster(work: Path, project: Path) -> None:
    call = _caller(work, project, work / "node_modules/.bin/task-master")
    (project / ".taskmaster/tasks").mkdir(parents=True)
    (project / ".taskmaster/tasks/tasks.json").write_text('{"master": {"tasks": [], "metadata": {}}}')
    text = ("--title", "Sign up", "--description", "Accounts for shoppers", "--details", "Use argon2.")
    call("add-task", *text, "--priority", "high")
    call("add-task", "--title", "Sign in", "--description", "Sessions", "--dependencies", "1")
    call("add-subtask", "--parent", "1", "--title", "Form", "--description", "The form", "--details", "Four fields.")
    call("add-subtask", "--parent", "1", "--title", "Mail", "--description", "Confirm", "--dependencies", "1.1")
    call("set-status", "--id", "1.1", "--status", "done")
    call("add-tag", "later", "--description", "Later work")
    call("add-task", "--title", "Refunds", "--description", "Money back", "--tag", "later")


def _make_backlog(work: Path, project: Path) -> None:
    call = _caller(work, project, work / "node_modules/.bin/backlog")
    call("init", "Shop", "--defaults", "--integration-mode", "none", "--check-branches", "false", "--no-git")
    criteria = ("--ac", "A page answers", "--ac", "Errors are told")
    text = ("-d", "Accounts for shoppers", "-l", "auth,web", "-a", "@alex", "--priority", "high")
    call("task", "create", "Sign up", *text, *criteria)
    call("task", "create", "Form", "-p", "task-1", "--ac", "It has fields")
    notes = ("--plan", "1. Look\n2. Write", "--notes", "Half done")
    call("task", "create", "Sign in", "--dep", "task-1", "-s", "In Progress", *notes)
    call("task", "create", "Maybe", "--draft", "-d", "an idea")
    call("task", "edit", "1", "--check-ac", "1")
    call("task", "edit", "1.1", "-s", "Done")
    call("task", "create", "Old", "-s", "Done")
    call("task", "create", "Gone")
    call("task", "archive", "4")
    call("task", "complete", "3")
    call("decision", "create", "Use PostgreSQL")


def _make_beads(work: Path, project: Path) -> None:
    call = _caller(work, project, work / "node_modules/.bin/bd")
    call("init", "--quiet", "--prefix", "bd")
    call("create", "Shop", "--type", "epic")
    call("create", "Sign up", "--type", "task", "--priority", "1")


def taskmaster(folder: Path, tasks: Sequence[Mapping[str, Any]], tag: str = "master") -> Path:
    """A project with Task Master's file; the same tag is written anew."""
    file = folder / ".taskmaster/tasks/tasks.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    told = json.loads(file.read_text()) if file.exists() else {}
    told[tag] = {"tasks": list(tasks), "metadata": {"description": f"Tasks for {tag}"}}
    file.write_text(json.dumps(told, indent=2))
    return folder


def task(number: int | str, title: str, **more: Any) -> dict[str, Any]:
    """A task as Task Master writes it."""
    told = {"id": number, "title": title, "description": f"About {title}", "details": "", "testStrategy": ""}
    return {**told, "status": "pending", "dependencies": [], "priority": "medium", "subtasks": [], **more}


def beads(folder: Path, *issues: Mapping[str, Any]) -> Path:
    """A project with the lines of beads."""
    file = folder / ".beads/issues.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in issues))
    return folder


def issue(ref: str, title: str, *edges: tuple[str, str], **more: Any) -> dict[str, Any]:
    """An issue as bd exports it; edges are (what it depends on, the kind)."""
    dependencies = [
        {"issue_id": ref, "depends_on_id": other, "type": kind, "created_at": "2026-10-01T09:00:00Z"}
        for other, kind in edges
    ]
    told = {"id": ref, "title": title, "status": "open", "priority": 2, "issue_type": "task", "labels": []}
    times = {"created_at": "2026-10-01T09:00:00Z", "updated_at": "2026-10-01T09:00:00Z"}
    return {**told, **times, **({"dependencies": dependencies} if dependencies else {}), **more}


SHOP = (
    issue("bd-1", "Shop", issue_type="epic", description="Sell things."),
    issue(
        "bd-2",
        "Accounts",
        ("bd-1", "parent-child"),
        issue_type="feature",
        priority=0,
        design="One table.",
        notes="Ask Alex.",
        acceptance_criteria="- A page answers\n- Errors are told",
        labels=["auth"],
    ),
    issue("bd-3", "Form", ("bd-2", "parent-child"), status="closed"),
    issue("bd-4", "Mail", ("bd-2", "parent-child"), ("bd-3", "blocks"), assignee="alex"),
    issue("bd-5", "Logo", ("bd-1", "parent-child"), ("bd-2", "blocks"), ("bd-4", "related"), issue_type="chore"),
    issue("bd-6", "Typo", issue_type="bug", priority=4, status="deferred"),
    issue("bd-7", "Gone", status="tombstone"),
)
