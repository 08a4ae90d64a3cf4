"""PROVISIONAL: seeds bare agents so that feature tests can run; the import helper replaces this with the real thing."""

from bmad_mcp.call import OpenProject
from bmad_mcp.db import Transaction

NAMES = {"analyst": "Analyst", "pm": "Product manager", "architect": "Architect", "sm": "Scrum master",
         "dev": "Developer", "qa": "QA", "po": "Product owner", "ux": "UX expert"}


async def seed_builtins(project: OpenProject) -> None:
    db = Transaction(project.pool, project.id)
    await db.executemany(
        "INSERT INTO bmad_agents (project_id, name, display_name, title, aliases)"
        " VALUES (bmad_project(), $1, $2, $2, $3) ON CONFLICT DO NOTHING",
        [(name, title, [f"bmad-agent-{name}"] + (["ux-expert"] if name == "ux" else [])) for name, title in NAMES.items()],
    )
    await db.end("COMMIT")
