"""Imports every model, for Alembic and the tests."""

import bmad_mcp.activity.models
import bmad_mcp.agents.models
import bmad_mcp.analytics.models
import bmad_mcp.artifacts.models
import bmad_mcp.checklists.models
import bmad_mcp.encryption.models
import bmad_mcp.handoffs.models
import bmad_mcp.identity.models
import bmad_mcp.jobs.models
import bmad_mcp.memory.models
import bmad_mcp.projects.models
import bmad_mcp.stories.models
import bmad_mcp.tasks.models
import bmad_mcp.templates.models
import bmad_mcp.workflows.models
from bmad_mcp.schema import Base

METADATA = Base.metadata
