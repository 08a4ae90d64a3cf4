"""A persona or a workflow as the text of a SKILL.md: fixed words on how to work, the project's own words as data."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from bmad_mcp.agents.persona import compact, cut
from bmad_mcp.skills.data_block import told_data

# For the names that BMad itself gives; whatever else a project calls its agents is told by the name alone.
ROLES: Mapping[str, str] = {
    "analyst": "researches, interviews and writes the brief",
    "architect": "designs the system and writes the architecture",
    "dev": "builds approved stories with their tests",
    "pm": "writes the product requirements and orders them",
    "po": "guards the backlog and checks that documents agree",
    "qa": "reviews stories and decides the quality gate",
    "sm": "writes stories so that they can be built",
    "ux": "designs flows and screens",
}
_FACTS = ("creates", "updates", "validates", "uses", "requires", "condition")
LONGEST_STAGE = 600


def description_of(kind: str, name: str) -> str:
    """When to use the skill, in fixed words around its name."""
    if kind == "workflow":
        return (
            f"Run the workflow {name} of this BMad project, stage by stage and agent by agent. Use it when the user"
            f" wants to start {name} or to go on with a run of it."
        )
    role = f", who {ROLES[name]}," if name in ROLES else ""
    return (
        f"Work as {name}{role} in this BMad project. Use it when the user asks for {name} or for the next piece of that"
        " work."
    )


def persona_steps(name: str) -> str:
    """How to work as an agent."""
    return (
        f"Work as the agent {name} of this BMad project.\n"
        f'1. Call agent_activate with agent="{name}" before anything else: reading this has activated nothing.\n'
        "2. Take on the persona that it answers with: its role, style and principles. Stay in it until"
        " agent_deactivate.\n"
        "3. Do what its `next` says. Go on with work that is held, accept handoffs, then take new work.\n"
        "4. Ask the user where the data leaves a choice open. At the end call agent_deactivate with a summary."
    )


def workflow_steps(name: str) -> str:
    """How to run a workflow."""
    return (
        f"Run the workflow {name} of this BMad project.\n"
        f"1. Call workflow_list: go on with an active run of {name} if the user means that one. Else call workflow_start"
        f' with type="{name}" and a title. Keep the key, such as W-3.\n'
        "2. For the current stage, which workflow_start and workflow_get answer: call agent_activate with its agent, do"
        " what it says, and write down what it creates.\n"
        '3. Call workflow_advance with the key and outcome="done", and the artifact that was made; "skip" for an optional'
        " stage that is not needed; the name of a route where the stage has routes. It answers the next stage.\n"
        "4. Ask the user before a decision stage. Stop when the run is completed, or pause it with workflow_pause."
    )


def skill_text(row: Mapping[str, Any]) -> str:
    """The whole SKILL.md of a row with skill, kind, and persona and commands or stages."""
    name, kind = row["skill"], row["kind"]
    if kind == "workflow":
        steps, data = workflow_steps(name), _stages(row["stages"])
    else:
        steps, data = persona_steps(name), compact(name, row["persona"], row["commands"])
    # As JSON, which is YAML too: a name such as `null` stays a name.
    matter = "\n".join(
        f"{field}: {to_json(value).decode()}"
        for field, value in (("name", name), ("description", description_of(kind, name)))
    )
    return f"---\n{matter}\n---\n\n# {name}\n\n{steps}\n\n{told_data(data, is_fixed=True)}\n"


def _stages(stages: Sequence[Any]) -> str:
    told = [_stage(stage) for stage in stages if isinstance(stage, Mapping)]
    return "\n".join(f"{number}. {cut(text, LONGEST_STAGE)}" for number, text in enumerate(told, start=1))


def _stage(stage: Mapping[str, Any]) -> str:
    facts = [str(stage[name]) for name in ("action", "step") if stage.get(name)][:1]
    for name in _FACTS:
        if value := stage.get(name):
            facts.append(f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    if stage.get("optional"):
        facts.append("optional")
    return f"{stage.get('agent') or 'anybody'}: {'; '.join(facts)}"
