"""What is gathered while a folder is read: the folder, and everything found in it so far."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bmad_mcp.bmad_files.deviations import Deviations
from bmad_mcp.bmad_files.epics import EpicText
from bmad_mcp.bmad_files.folder import Folder
from bmad_mcp.bmad_files.values import (
    AgentDefinition,
    ChecklistDefinition,
    DocumentValue,
    GateValue,
    Generation,
    MemoryNote,
    SourceFile,
    StoryValue,
    TemplateDefinition,
    TrackerValue,
    WorkflowDefinition,
)
from bmad_mcp.progress import Progress


@dataclass(slots=True)
class Collected:
    """The folder, and everything found in it so far, in the order it was met."""

    folder: Folder
    progress: Progress
    generations: list[Generation] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    agents: list[AgentDefinition] = field(default_factory=list)
    workflows: list[WorkflowDefinition] = field(default_factory=list)
    templates: list[TemplateDefinition] = field(default_factory=list)
    checklists: list[ChecklistDefinition] = field(default_factory=list)
    epics: list[EpicText] = field(default_factory=list)
    stories: list[StoryValue] = field(default_factory=list)
    trackers: list[TrackerValue] = field(default_factory=list)
    gates: list[GateValue] = field(default_factory=list)
    documents: list[DocumentValue] = field(default_factory=list)
    notes: list[MemoryNote] = field(default_factory=list)

    @property
    def deviations(self) -> Deviations:
        return self.folder.deviations

    def try_each(self, source: SourceFile | None, parse: Callable[[SourceFile], None]) -> None:
        """Hand a file to a parser; a fault of the parser costs that file its meaning, not the project its import."""
        if source is None:
            return
        try:
            parse(source)
        except Exception as error:
            self.deviations.add(
                source.path,
                None,
                "reader-fault",
                f"This reader failed on the file ({type(error).__name__}); it is kept and not understood.",
                "Report it as a bug of this program, with the file if you may.",
            )
