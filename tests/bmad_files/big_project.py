"""A v6 project as large as one gets: thousands of stories, each with a file of its own, in our own words."""

from pathlib import Path

STORIES_OF_AN_EPIC = 20
BOXES = 8
CHARACTERS = 6_000
STATUSES = ("done", "done", "done", "review", "in-progress", "ready-for-dev", "backlog")
BUILDING = "_bmad-output/implementation-artifacts"
PLANNING = "_bmad-output/planning-artifacts"
_PROSE = (
    "The service keeps the parts of an order `{number}` together and tells the basket of each change.",
    "A page that shows more than **{number}** rows asks for them in steps, so that a phone is quick as well.",
    "See [the architecture](../planning-artifacts/architecture.md#part-{number}) for what may call what.",
    "- Write to `src/shop/part_{number}.py` and nowhere else; the tests stand beside it.",
)


def make_project(folder: Path, stories: int = 2_000) -> Path:
    """A project with so many stories of 6 KB and 8 check boxes each, a tracker and an epics document; its folder."""
    building, planning = folder / BUILDING, folder / PLANNING
    building.mkdir(parents=True)
    planning.mkdir(parents=True)
    epics, tracker = ["# Shop - Epic Breakdown\n"], []
    for count in range(stories):
        epic, number = divmod(count, STORIES_OF_AN_EPIC)
        epic, number = epic + 1, number + 1
        status = STATUSES[count % len(STATUSES)]
        if number == 1:
            epics.append(f"\n## Epic {epic}: Part {epic} of the shop\n\nEverything that part {epic} has to do.\n")
            tracker.append(f"  epic-{epic}: in-progress\n")
        title, slug = f"Do thing {number} of part {epic}", f"do-thing-{number}-of-part-{epic}"
        epics.append(
            f"\n### Story {epic}.{number}: {title}\n\nAs a shopper,\nI want thing {number},\nSo that it is easy.\n\n"
            f"**Acceptance Criteria:**\n\n**Given** a shopper\n**When** thing {number} is asked for\n**Then** it happens\n"
        )
        tracker.append(f"  {epic}-{number}-{slug}: {status}\n")
        (building / f"{epic}-{number}-{slug}.md").write_text(story_text(epic, number, title, status))
    (planning / "epics.md").write_text("".join(epics))
    (building / "sprint-status.yaml").write_text(
        "generated: 10-01-2026 09:00\nlast_updated: 10-20-2026 18:30\nproject: shop\nproject_key: NOKEY\n"
        f"tracking_system: file-system\nstory_location: {BUILDING}\n\ndevelopment_status:\n{''.join(tracker)}"
    )
    return folder


def story_text(epic: int, number: int, title: str, status: str) -> str:
    """A v6 story file of about 6 KB with 8 check boxes, 2 of them below another."""
    mark = "x" if status in ("done", "review") else " "
    boxes = "\n".join(
        f"{'  ' if at % 4 == 3 else ''}- [{mark}] Write piece {at} of {title.lower()} (AC: {at % 3 + 1})"
        for at in range(1, BOXES + 1)
    )
    head = (
        f"# Story {epic}.{number}: {title}\n\nStatus: {status}\n\n## Story\n\nAs a shopper,\nI want thing {number},\n"
        f"so that part {epic} is easy.\n\n## Acceptance Criteria\n\n1. It answers within a second.\n"
        "2. Wrong input is told beside the field.\n3. It works with a keyboard alone.\n\n"
        f"## Tasks / Subtasks\n\n{boxes}\n\n## Dev Notes\n"
    )
    tail = (
        "\n### References\n\n- docs/architecture.md\n\n## Dev Agent Record\n\n### Agent Model Used\n\n"
        "### Debug Log References\n\n### Completion Notes List\n\n### File List\n\n"
        f"- src/shop/part_{epic}.py\n\n## Change Log\n\n| Date | Change |\n|---|---|\n| 2026-10-01 | Written |\n"
    )
    notes: list[str] = []
    missing, at = CHARACTERS - len(head) - len(tail), 0
    while missing > 0:
        if at % 12 == 0:
            notes.append(f"\n### Part {at // 12 + 1}\n\n")
        notes.append(_PROSE[at % len(_PROSE)].format(number=epic * 100 + number + at) + "\n")
        missing -= len(notes[-1])
        at += 1
    return head + "".join(notes) + tail
