"""Compares what the database holds with what the files of a folder say, and says which file is to change; pure."""

from datetime import datetime

from bmad_mcp.bmad_files.rows import Wanted
from bmad_mcp.bmad_files.stories import order_of
from bmad_mcp.bmad_files.values import BmadProject
from bmad_mcp.bmad_files.writing.documents import export_documents, export_runs
from bmad_mcp.bmad_files.writing.draft import Draft, ExportPlan, Held
from bmad_mcp.bmad_files.writing.epics import export_epics
from bmad_mcp.bmad_files.writing.stories import Mend, export_story
from bmad_mcp.bmad_files.writing.trackers import export_trackers


def plan_export(project: BmadProject, wanted: Wanted, held: Held, now: datetime, *, mend: Mend = "none") -> ExportPlan:
    """Which files change, and how, so that they say what was changed in the database since the last import.

    What was changed in a file only is left there, and listed as newer. With `mend` a tracker that differs from its
    story's file gets the database's word, although nothing changed here: `all`, or only those that are `behind`.
    """
    draft = Draft(project, wanted, held, now)
    # Documents first: an epic or a story may be told in one. Trackers last: they gather from all.
    export_documents(draft)
    export_epics(draft)
    rows = {row.key: row for row in wanted.stories}
    stories = {story.key: story for story in project.stories}
    for key in sorted(held.stories, key=order_of):
        if held.stories[key].get("is_ranked"):
            draft.plan.only_here.append(key)
        export_story(draft, key, held.stories[key], rows.get(key), stories.get(key), mend=mend)
    for key in rows.keys() - held.stories.keys():
        draft.newer(f"story {key}")
    export_runs(draft)
    export_trackers(draft)
    return draft.plan
