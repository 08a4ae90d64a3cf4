"""What the readers of the generations gather while a folder is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bmad_mcp.bmad_files.folder import Folder
from bmad_mcp.bmad_files.stories import EpicsFound
from bmad_mcp.bmad_files.values import (
    AgentDefinition,
    ChecklistDefinition,
    GateValue,
    Generation,
    MemoryNote,
    StoryValue,
    TemplateDefinition,
    TrackerValue,
    WorkflowDefinition,
)


@dataclass(slots=True)
class Collected:
    """The folder, and everything found in it so far."""

    folder: Folder
    progress: Callable[[str], None]
    generations: list[Generation] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    agents: list[AgentDefinition] = field(default_factory=list)
    workflows: list[WorkflowDefinition] = field(default_factory=list)
    templates: list[TemplateDefinition] = field(default_factory=list)
    checklists: list[ChecklistDefinition] = field(default_factory=list)
    epics: EpicsFound = field(default_factory=EpicsFound)
    stories: dict[str, StoryValue] = field(default_factory=dict)
    trackers: list[TrackerValue] = field(default_factory=list)
    gates: dict[str, GateValue] = field(default_factory=dict)
    notes: list[MemoryNote] = field(default_factory=list)

    def add_story(self, story: StoryValue) -> None:
        """Keep a story; a second file for the same key is told and left out."""
        known = self.stories.get(story.key)
        if known is not None:
            self.folder.note(
                story.path or "",
                "story-twice",
                f"Story {story.key} is told by {known.path} too; that one counts.",
                "Give one of them another number.",
            )
            return
        self.stories[story.key] = story
