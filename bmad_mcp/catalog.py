"""CATALOG: every operation there is, feature by feature."""

from bmad_mcp.activity.operations import OPERATIONS as ACTIVITY
from bmad_mcp.agents.operations import OPERATIONS as AGENTS
from bmad_mcp.analytics.operations import OPERATIONS as ANALYTICS
from bmad_mcp.artifacts.operations import OPERATIONS as ARTIFACTS
from bmad_mcp.checklists.operations import OPERATIONS as CHECKLISTS
from bmad_mcp.handoffs.operations import OPERATIONS as HANDOFFS
from bmad_mcp.memory.operations import OPERATIONS as MEMORY
from bmad_mcp.operation import Operation
from bmad_mcp.projects.operations import OPERATIONS as PROJECTS
from bmad_mcp.skills.operations import OPERATIONS as SKILLS
from bmad_mcp.stories.operations import OPERATIONS as STORIES
from bmad_mcp.tasks.operations import OPERATIONS as TASKS
from bmad_mcp.templates.operations import OPERATIONS as TEMPLATES
from bmad_mcp.workflows.operations import OPERATIONS as WORKFLOWS

# In the order in which a client sees them.
CATALOG: tuple[Operation, ...] = (
    *ANALYTICS,
    *AGENTS,
    *STORIES,
    *TASKS,
    *HANDOFFS,
    *WORKFLOWS,
    *MEMORY,
    *TEMPLATES,
    *CHECKLISTS,
    *ARTIFACTS,
    *SKILLS,
    *ACTIVITY,
    *PROJECTS,
)
BY_NAME = {operation.name: operation for operation in CATALOG}
