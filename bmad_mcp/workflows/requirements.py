"""What a stage builds on, and whether the project has it; told, never enforced."""

import re
from collections.abc import Mapping
from typing import Any

from bmad_mcp.call import Call
from bmad_mcp.told_commands import ANY_FOLDER, on_folder
from bmad_mcp.workflows import queries
from bmad_mcp.workflows.schemas import Requirement

# A workflow names a document in one way and the template that makes it saves it under another; what is no document
# is known by the stage that brings it forth.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "project-brief.md": ("brief.md", "brief"),
    "prd.md": ("prd/index.md",),
    "architecture.md": ("architecture/index.md", "fullstack-architecture.md", "brownfield-architecture.md"),
    "fullstack-architecture.md": ("architecture.md", "architecture/index.md", "architecture"),
    "front-end-architecture.md": ("ui-architecture.md",),
    "brownfield-architecture.md": ("architecture.md", "architecture/index.md", "architecture"),
    "sharded_docs": ("prd/index.md",),
    "sharded_docs_or_brownfield_docs": ("sharded_docs", "prd/index.md", "brownfield-architecture.md"),
    "all_artifacts_in_project": ("all_artifacts",),
    "existing_documentation_or_analysis": (
        "documentation_check",
        "project_analysis",
        "brownfield-architecture.md",
        "architecture.md",
        "architecture/index.md",
        "architecture",
    ),
    "existing_service_analysis": ("service_analysis",),
    "existing_ui_analysis": ("ui_analysis",),
}
STORY = "story.md"


def names_for(requirement: str) -> tuple[str, ...]:
    """The names under which what a stage asks for may be found: file names, titles, kinds of artifacts, stages."""
    bare = requirement.split(" (")[0].strip()
    return tuple(dict.fromkeys((requirement, bare, bare.removesuffix(".md"), *ALIASES.get(bare, ()))))


async def requirements_of(call: Call, run_id: Any, stage: Mapping[str, Any]) -> list[Requirement]:
    """Each thing that the stage asks for, in order."""
    if not stage["requires"]:
        return []
    asked = {requirement: names_for(requirement) for requirement in stage["requires"]}
    every = sorted({name for names in asked.values() for name in names})
    have = {row["name"] for row in await call.db.fetch(queries.HAVE, run_id, every)}
    if stage["story_key"]:
        have.add(STORY)
    return [_told(name, not have.isdisjoint(names), call.project_key) for name, names in asked.items()]


def _told(name: str, have: bool, project: str) -> Requirement:
    bare = name.split(" (")[0].strip()
    if have or not re.search(queries.FILE, bare):
        return Requirement(name=name, have=have)
    if bare == STORY:
        return Requirement(name=name, have=False, record="story_create adds a story.")
    path = bare if "/" in bare else f"docs/{bare}"
    return Requirement(
        name=name,
        have=False,
        record=f"artifact_record with path={path!r} (toolset planning) once it is there, or"
        f" `{on_folder('import', ANY_FOLDER, project)}`.",
    )
