"""Stories as Markdown, as people and models read them."""

from bmad_mcp.shapes import one_line
from bmad_mcp.stories.schemas import StoryOut


def story_markdown(story: StoryOut) -> str:
    """A story under its headings. What the database knows comes first: no text below can pass for it."""
    facts = [
        f"Status: {story.status}",
        f"Epic: {story.epic} {one_line(story.epic_title or '')}".rstrip(),
        f"Priority: {story.priority}",
        f"Points: {story.points}" if story.points is not None else "",
        f"Version: {story.version}",
        f"File: `{story.file}`" if story.file else "",
        f"Gate: {one_line(str(story.gate.get('gate', 'recorded')))}" if story.gate else "",
    ]
    lines = [f"# Story {story.key}: {one_line(story.title)}", "", " · ".join(fact for fact in facts if fact)]
    if story.tasks:
        done = sum(task.status == "completed" for task in story.tasks)
        lines += ["", f"Tasks ({done} of {len(story.tasks)} completed):", ""]
        for task in story.tasks:
            who = f" ({task.agent})" if task.agent else ""
            held = f", held by {task.held_by}" if task.held_by else ""
            lines.append(f"- {task.key} {task.status}{held}: {one_line(task.title)}{who}")
    for section in story.sections:
        lines += ["", f"{'#' * max(2, min(section.level, 6))} {one_line(section.name)}"]
        if section.text:
            lines += ["", section.text]
    return "\n".join(lines) + "\n"
