"""Small projects of our own making that stray from the formats as real ones do; `DEVIATION_PROJECTS` makes each."""

from collections.abc import Callable
from pathlib import Path

from bmad_installs import story_text, v6_story_text, write

STORIES = "docs/stories"
GATES = "docs/qa/gates"
BUILDING = "_bmad-output/implementation-artifacts"
PLANNING = "_bmad-output/planning-artifacts"


def _core_config(root: Path, version: str) -> None:
    write(
        root,
        ".bmad-core/core-config.yaml",
        "prd:\n  prdSharded: true\ndevStoryLocation: docs/stories\nslashPrefix: X\n",
    )
    write(root, ".bmad-core/install-manifest.yaml", f"version: {version}\ninstall_type: full\nides_setup: []\n")


def _gate(root: Path, key: str, name: str, gate: str, more: str = "") -> None:
    write(
        root,
        f"{GATES}/{key}-{name}.yml",
        f"schema: 1\nstory: '{key}'\ngate: {gate}\nstatus_reason: 'Read and run.'\nreviewer: 'Quinn'\n"
        f"updated: '2026-09-14T10:00:00Z'\ntop_issues: []\nwaiver: {{active: false}}\n{more}",
    )


def twattier(root: Path) -> None:
    """v4: the status below its heading, bare, bold and with a tick; the same word again in the head; many gates."""
    _core_config(root, "4.44.1")
    forms = ("Done", "**Done**", "✅ Done", "Done", "**Done**", "Ready for Review")
    for number, word in enumerate(forms, start=1):
        key = f"1.{number}"
        text = story_text(key, f"Diagram {number}", f"## Status\n\n{word}\n", "xx")
        # The head says it a second time; in one story it was forgotten there.
        head = "Status: Done" if number in (2, 6) else "Status: Done\n\nEpic: 1"
        text = text.replace("\n\n## Status", f"\n\n{head}\n\n## Status", 1)
        write(root, f"{STORIES}/{key}.diagram-{number}.md", text)
        _gate(root, key, f"diagram-{number}", "CONCERNS" if number == 4 else "PASS", f"quality_score: {90 + number}\n")
    write(
        root, "docs/prd/epic-1-diagrams.md", "## Epic 1 Diagrams\n\nDraw them.\n\n### Story 1.1 Diagram 1\n\nFirst.\n"
    )


def jthadison(root: Path) -> None:
    """v4: sections, bold lines and no status at all in one folder; words of its own, and long texts as a status."""
    _core_config(root, "4.42.0")
    long = (
        "Done – finished with the second round of QA; all 14 findings are closed, see the log. " + "More on that. " * 30
    )
    heads = {
        "1.1": "## Status\n\nDone\n",
        "1.2": "**Status**: Ready for Review\n",
        "1.3": "**Status:** Ready for Development\n",
        "1.4": f"## Status\n\n{long}\n",
        "2.1": "## Status\n\nComplete\n",
        "2.2": "**Status**: Backlog\n",
        "2.3": "",
        "2.4": "## Status\n\nWaiting for market data\n",
    }
    for key, head in heads.items():
        ending = "story" if key.endswith("1") else f"part-{key[-1]}"
        write(root, f"{STORIES}/epic-{key[0]}/{key}.{ending}.md", story_text(key, f"Phase {key}", head, "x "))
    write(root, f"{STORIES}/1.1-review-notes.md", "# Review notes\n\nNothing open.\n")
    write(root, f"{STORIES}/overview.md", "# Overview\n\nAll phases.\n")
    write(root, "docs/prd.md", "# Needs\n\n## Epic 1: Phases\n\nFind them.\n\n## Epic 2: Signals\n\nTell them.\n")


def drjlabs(root: Path) -> None:
    """v4.27: the status behind its heading's colon, `(ACs)`, bullets `AC1:`, Markdown templates, stories of epic 0."""
    _core_config(root, "4.27.0")
    write(
        root,
        ".bmad-core/templates/story-tmpl.md",
        "# Story {{epic}}.{{story}}\n\n## Status: Draft\n\n[[LLM: Fill in]]\n",
    )
    for key, word in (("0.1", "Done"), ("0.2", "In Progress"), ("1.1", "Draft")):
        write(
            root,
            f"{STORIES}/{key}.memory.md",
            f"# Story {key}: Memory {key}\n\n## Status: {word}\n\n## Story\n\nAs a user, I want {key}, so that it stays.\n\n"
            "## Acceptance Criteria (ACs)\n\n- AC1: It is kept.\n- AC2: It is found.\n\n"
            "## Tasks / Subtasks\n\n- [ ] Task 1 (AC1)\n  - [ ] Part of it\n",
        )


def mscottx88(root: Path) -> None:
    """v6: what is out of use gets a word of its own, with what it was before; comments carry a key's whole history."""
    history = "was backlog 04-01; ready-for-dev 04-03; back to backlog 04-05 # see 1-4; then " + "moved again, " * 25
    write(
        root,
        f"{BUILDING}/sprint-status.yaml",
        "# Written by hand since 04-14\ngenerated: 2026-04-14\nlast_updated: 2026-04-20 # after the retro\n"
        "project: todo-app\nproject_key: NOKEY\ntracking_system: file-system\n"
        f'story_location: "{{project-root}}/{BUILDING}"\n\ndevelopment_status:\n  epic-1: done # accepted\n'
        f"  1-1-add-a-task: done\n  1-2-edit-a-task: superseded # {history}\n  1-3-drop-a-task: retired\n"
        "  1-4-undo: 'superseded (was: done)' # by 2-1\n  epic-1-retrospective: pending # on Friday\n"
        "\n  # second half\n  epic-2: in-progress\n  2-1-undo-all: review\n  epic-2-retrospective: optional\n",
    )
    words = {
        "1-1-add-a-task": "done",
        "1-2-edit-a-task": "superseded",
        "1-3-drop-a-task": "retired",
        "1-4-undo": "superseded (was: done)",
        "2-1-undo-all": "in-progress",
    }
    for name, word in words.items():
        epic, number, rest = name.split("-", 2)
        text = v6_story_text(f"{epic}.{number}", rest.replace("-", " ").capitalize(), word)
        write(root, f"{BUILDING}/{name}.md", text)
    write(
        root,
        f"{PLANNING}/epics.md",
        "# Todo\n\n## Epic 1: Tasks\n\n### Story 1.1: Add a task\n\n### Story 1.2: Edit a task\n\n"
        "### Story 1.3: Drop a task\n\n### Story 1.4: Undo\n\n## Epic 2: Undo\n\n### Story 2.1: Undo all\n",
    )


def keliihall(root: Path) -> None:
    """v6: names in Chinese, stories split by letters, stamps in ISO form."""
    write(
        root,
        f"{BUILDING}/sprint-status.yaml",
        "generated: 2026-03-01T08:00:00+08:00\nlast_updated: 2026-03-09T21:15:00+08:00\nproject: 学术\n"
        "project_key: NOKEY\ntracking_system: file-system\ndevelopment_status:\n  epic-1: in-progress\n"
        "  1-1a-登录页面: done\n  1-1b-登录接口: review\n  1-2-文献检索: ready-for-dev\n  epic-1-retrospective: optional\n",
    )
    for name, title, word in (
        ("1-1a-登录页面", "登录页面", "done"),
        ("1-1b-登录接口", "登录接口", "review"),
        ("1-2-文献检索", "文献检索", "ready-for-dev"),
    ):
        key = name.split("-", 2)
        write(root, f"{BUILDING}/{name}.md", v6_story_text(f"{key[0]}.{key[1]}", title, word))
    write(
        root,
        f"{PLANNING}/epics.md",
        "# 学术\n\n## Epic 1: 账户\n\n### Story 1.1a: 登录页面\n\n### Story 1.1b: 登录接口\n\n### Story 1.2: 文献检索\n",
    )


def sulha199(root: Path) -> None:
    """v6: only the tracker tells statuses; a stray stamp among them; a project within the project, with its own one."""
    write(
        root,
        f"{BUILDING}/sprint-status.yaml",
        "generated: 02-01-2026 09:00\nlast_updated: 02-20-2026 18:30\nproject: grid\nproject_key: NOKEY\n"
        "tracking_system: file-system\ndevelopment_status:\n  last_updated: 2026-02-20\n  epic-0: in-progress\n"
        "  0-15-board: superseded-by-0.16\n  0-16-boards: in-progress\n  epic-1: backlog\n  1-1-print: backlog\n"
        "  1-2-share: ready-for-dev\n  epic-0-retrospective: optional\n",
    )
    for key, title in (("0-15-board", "Board"), ("0-16-boards", "Boards"), ("1-2-share", "Share")):
        epic, number, _ = key.split("-", 2)
        text = v6_story_text(f"{epic}.{number}", title, "x").replace("Status: x\n\n", "")
        write(root, f"{BUILDING}/{key}.md", text)
    write(root, f"{PLANNING}/epics.md", "## Epic 0: Boards\n\nThem all.\n\n## Epic 1: Out\n\n### Story 1.1: Print\n")
    inner = f"{BUILDING}/tool"
    write(
        root,
        f"{inner}/sprint-status.yaml",
        "generated: 02-02-2026 09:00\nlast_updated: 02-02-2026 09:00\nproject: tool\ndevelopment_status:\n"
        "  epic-1: backlog\n  1-1-parse: done\n",
    )
    write(root, f"{inner}/1-1-parse.md", v6_story_text("1.1", "Parse", "done"))


def alpharages(root: Path) -> None:
    """v6: the tracker stands among the plans, and the stories beside it."""
    write(
        root,
        f"{PLANNING}/sprint-status.yaml",
        "generated: 08-01-2026 09:00\nlast_updated: 08-02-2026 09:00\nproject: server\nproject_key: NOKEY\n"
        f"tracking_system: file-system\nstory_location: {PLANNING}/stories\ndevelopment_status:\n  epic-1: in-progress\n"
        "  1-1-list-tools: done\n  1-2-read-a-tool: review\n  1-3-search: backlog\n  epic-1-retrospective: optional\n",
    )
    for name, word in (("1-1-list-tools", "done"), ("1-2-read-a-tool", "in-progress")):
        epic, number, rest = name.split("-", 2)
        text = v6_story_text(f"{epic}.{number}", rest.replace("-", " ").capitalize(), word)
        write(root, f"{PLANNING}/stories/{name}.md", text)


def placeholder(root: Path) -> None:
    """6.0.4 without --output-folder: a setting and a folder that are literally called `{output_folder}`."""
    write(
        root,
        "_bmad/bmm/config.yaml",
        'project_name: shop\noutput_folder: "{output_folder}"\n'
        'planning_artifacts: "{output_folder}/planning-artifacts"\n'
        'implementation_artifacts: "{output_folder}/implementation-artifacts"\n',
    )
    write(root, "{output_folder}/planning-artifacts/epics.md", "## Epic 1: Shop\n\n### Story 1.1: Pay\n")
    write(root, "{output_folder}/implementation-artifacts/1-1-pay.md", v6_story_text("1.1", "Pay", "review"))


def two_generations(root: Path) -> None:
    """v4 and v6 installed beside each other, each with stories, and an assistant's copies of the definitions."""
    _core_config(root, "4.44.3")
    agent = "# dev\n\n```yaml\nagent:\n  name: James\n  id: dev\n  title: Developer\n  icon: X\n```\n"
    write(root, ".bmad-core/agents/dev.md", agent)
    write(root, ".claude/commands/BMad/agents/dev.md", agent)
    write(root, ".cursor/rules/bmad/dev.mdc", agent)
    write(root, "_bmad/_config/manifest.yaml", "installation:\n  version: 6.0.4\n")
    write(root, f"{STORIES}/1.1.old.md", story_text("1.1", "Old", "## Status\n\nDone\n", "xx"))
    write(root, f"{BUILDING}/2-1-new.md", v6_story_text("2.1", "New", "review"))
    # Both number a story 1.2.
    write(root, f"{STORIES}/1.2.both.md", story_text("1.2", "Both", "## Status\n\nApproved\n", "  "))
    write(root, f"{BUILDING}/1-2-both.md", v6_story_text("1.2", "Both again", "backlog"))


def tickets(root: Path) -> None:
    """v7: an initiative with two epics, tickets and plans beside them, and a v6 tracker that one ticket came from."""
    home = "_bmad-output/initiative-shop"
    write(
        root,
        f"{home}/tickets.toml",
        '[[epic]]\nid = 2\nslug = "epic-orders"\ntitle = "Orders"\n\n[[epic]]\nid = 1\ntitle = "Accounts"\n',
    )
    write(
        root,
        f"{home}/epic-orders/tickets.toml",
        '[[entry]]\nid = 3\ntype = "story"\ntitle = "Fill a basket"\n'
        'description = "As a shopper, I want to fill a basket, so that I pay once."\n'
        'verify = "- It holds two things\\n- It stays for a day"\ncovers = ["R1", "R2"]\nrisk = "low"\nhitl = true\n\n'
        '[[entry]]\nid = 1\ntype = "spike"\ntitle = "Pay"\nafter = [3, "1.1", "epic-accounts"]\n\n'
        '[[entry]]\nid = 4\ntitle = "Ship"\nafter = [9]\nv6_key = "7-2-ship"\n',
    )
    write(
        root,
        f"{home}/epic-orders/epic-orders.md",
        "---\ntype: epic\nstatus: in-progress\n---\n\n# O\n\n## Outcome\n\nSell.\n",
    )
    write(
        root,
        f"{home}/epic-orders/story-basket-plan.md",
        "---\ntitle: Basket\nticket: '3'\nstatus: built\n---\n\n# Plan\n",
    )
    write(
        root,
        f"{home}/epic-orders/spike-pay.md",
        "---\nid: 1\ntype: spike\ntitle: Pay\n---\n\n# Pay\n\n## Acceptance Criteria\n\n1. A way is found\n2. It is told\n",
    )
    write(root, f"{home}/epic-orders/spike-pay-plan.md", "---\nstatus: dropped\n---\n\n# Plan\n")
    write(root, f"{home}/epic-accounts/tickets.toml", '[[entry]]\nid = 1\ntitle = "Sign in"\n')
    write(root, f"{BUILDING}/sprint-status.yaml", "development_status:\n  epic-7: in-progress\n  7-2-ship: review\n")


DEVIATION_PROJECTS: dict[str, Callable[[Path], None]] = {
    one.__name__: one
    for one in (
        twattier,
        jthadison,
        drjlabs,
        mscottx88,
        keliihall,
        sulha199,
        alpharages,
        placeholder,
        two_generations,
        tickets,
    )
}
